"""How networks are trained, and how their weights are kept.

- `training`: the one training loop: averaged weights, resumed to the same bits
- `muon`: the optimiser Muon
- `checkpoints`: weights as safetensors with a record and a checksum, never a pickle
"""

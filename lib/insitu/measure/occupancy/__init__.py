"""How many atoms are in every column of an image of ceria, cations and anions, with intervals.

- `counter`: `load_counter`, and the table, the maps and the refusals that it gives; start here
- `network`: what is a column: a network that says of every pixel of an image
- `sites`: where the crystal lies, from what the network says of pixels
- `periods`: where it lies when columns are too faint to be seen, from the counts' frequencies
- `frames`: columns seen in the axes of their crystal, and the network that counts atoms so
- `intervals`: what makes the bins in which intervals are calibrated, and the calibration itself
- `slabs`: slabs of ceria, their waves, and images with the truth
- `learning`: how the network of pixels is taught
- `learning_sites`: how the network of sites is taught
- `judging`: what the numbers are worth, and their calibration
- `oracle`: the least error that the counts allow
"""

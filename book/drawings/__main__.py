"""Draw all drawings anew: `python -m book.drawings`."""

from __future__ import annotations

from pathlib import Path

from book.drawings import evidence, kit, networks, recording, tomography

DRAWINGS = {
    "microscope": recording.microscope,
    "counts": recording.counts,
    "flow": recording.flow,
    "convolution": networks.convolution,
    "u-net": networks.u_net,
    "blind-spot": networks.blind_spot,
    "sums": networks.sums,
    "held-back": evidence.held_back,
    "double-dipping": evidence.double_dipping,
    "tilts": tomography.tilts,
    "orders": tomography.orders,
}


def main(folder: Path = Path(__file__).parent) -> None:
    """Draw them into a folder."""
    for name, drawn in DRAWINGS.items():
        kit.save(drawn(), folder / f"{name}.svg")


if __name__ == "__main__":
    main()

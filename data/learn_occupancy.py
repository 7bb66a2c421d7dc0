"""Make the network that counts atoms, on any machine: slabs, images, training, calibration.

    python data/learn_occupancy.py [--output FOLDER] [--slabs 1200] [--images 12000]
        [--steps 40000] [--device auto] [--start checkpoints/occupancy.safetensors]

Whatever is there is not made again: waves (`ceria_waves`), images (`occupancy.*.safetensors`), and
the state of the training, which goes on where it was stopped. It needs torch, ase, abtem for waves
that are not there, and no notebook; `data/make.py occupancy` calls it.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from insitu.learning import checkpoints
from insitu.learning.training import device_named
from insitu.measure import occupancy_images, occupancy_judging, occupancy_learning
from insitu.measure.occupancy.learning import Pool, draw_pool

OPTIONS = {"channels": 32, "blocks": [1, 1, 2, 2]}


def pool_of(folder: Path, part: str, images: int, seed: int) -> Pool:
    """Clean images of a part, drawn once."""
    path = folder / f"occupancy.{part}.safetensors"
    if not path.exists():
        pool = draw_pool(folder / "ceria_waves", part, images, seed=seed, progress=True)
        checkpoints.save(path, pool._asdict(), {"images": images, "seed": seed})
    return Pool(**checkpoints.load(path)[0])


def write(
    folder: Path,
    *,
    slabs: int = 1200,
    images: int = 12_000,
    steps: int = occupancy_learning.SETTINGS.steps,
    device: str = "auto",
    start: Path | None = None,
    **origin: Any,
) -> Path:
    """Write checkpoints/occupancy.safetensors with its calibration."""
    waves = folder / "ceria_waves"
    occupancy_images.make_waves(waves, slabs, progress=True)
    learned = pool_of(folder, "train", images, 1)
    judged = pool_of(folder, "validation", 400, 2)
    weights = None
    if start is not None:
        weights = {name: value.float() for name, value in checkpoints.load(start)[0].items()}
    result = occupancy_learning.learn_counter(
        learned,
        judged,
        replace(occupancy_learning.SETTINGS, steps=steps),
        options=OPTIONS,
        start=weights,
        checkpoint=folder / "occupancy.training.safetensors",
        device=device_named(device),
        progress=True,
    )
    held = occupancy_images.slabs(waves, "validation")
    calibration = occupancy_judging.calibrate(
        occupancy_judging.judge(result.network.cpu(), held, images=6, seed=5)
    )
    return result.save(
        folder / "checkpoints" / "occupancy.safetensors",
        calibration=asdict(calibration),
        trained_for=occupancy_learning.TRAINED_FOR,
        slabs=slabs,
        images=images,
        **origin,
    )


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--slabs", type=int, default=1200)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--steps", type=int, default=occupancy_learning.SETTINGS.steps)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--start", type=Path)
    given = vars(parser.parse_args())
    print(write(given.pop("output"), made_by="data/learn_occupancy.py", **given))


if __name__ == "__main__":
    main()

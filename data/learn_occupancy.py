"""Make the networks that count atoms, on any machine: slabs, images, training, calibration.

    python data/learn_occupancy.py [--output FOLDER] [--slabs 2400] [--images 12000]
        [--steps 40000] [--site-steps 40000] [--device auto]
        [--start checkpoints/occupancy.safetensors]

Whatever is there is not made again: waves (`ceria_waves`), images (`occupancy.*.safetensors`,
`sites.*.safetensors`), the states of both trainings, which go on where they were stopped, and the
network of pixels in `checkpoints`; remove that to train it anew. Calibration comes last, and goes
into the record of the network of sites. It needs torch, ase, abtem for waves that are not there,
and no notebook; `data/make.py occupancy` calls it.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from insitu.learning import checkpoints
from insitu.learning.training import device_named
from insitu.measure.occupancy import judging, learning, learning_sites, slabs
from insitu.measure.occupancy.counter import load_counter
from insitu.measure.occupancy.learning import Pool, draw_pool
from insitu.measure.occupancy.learning_sites import SitePool, draw_sites

OPTIONS = {"channels": 32, "blocks": [1, 1, 2, 2]}


def kept(path: Path, draw: Any, **record: Any) -> dict[str, Tensor]:
    """What a file holds, which is drawn if it is not there."""
    if not path.exists():
        checkpoints.save(path, {k: v.contiguous() for k, v in draw()._asdict().items()}, record)
    return checkpoints.load(path)[0]


def write_pixels(
    folder: Path, *, images: int, steps: int, device: str, start: Path | None, **origin: Any
) -> Path:
    """Write checkpoints/occupancy.safetensors, the network of pixels, unless it is there."""
    path = folder / "checkpoints" / "occupancy.safetensors"
    if path.exists():
        return path
    waves = folder / "ceria_waves"
    pools = [
        Pool(
            **kept(
                folder / f"occupancy.{part}.safetensors",
                lambda part=part, count=count, seed=seed: draw_pool(
                    waves, part, count, seed=seed, progress=True
                ),
                images=count,
                seed=seed,
            )
        )
        for part, count, seed in (("train", images, 1), ("validation", 400, 2))
    ]
    weights = None
    if start is not None:
        weights = {name: value.float() for name, value in checkpoints.load(start)[0].items()}
    result = learning.learn_counter(
        *pools,
        replace(learning.SETTINGS, steps=steps),
        options=OPTIONS,
        start=weights,
        checkpoint=folder / "occupancy.training.safetensors",
        device=device_named(device),
        progress=True,
    )
    return result.save(path, trained_for=learning.TRAINED_FOR, images=images, **origin)


def write(
    folder: Path,
    *,
    slabs_made: int = 2400,
    images: int = 12_000,
    steps: int = learning.SETTINGS.steps,
    site_steps: int = learning_sites.SETTINGS.steps,
    device: str = "auto",
    start: Path | None = None,
    **origin: Any,
) -> Path:
    """Write checkpoints/occupancy.safetensors, occupancy_sites.safetensors and a calibration."""
    waves = folder / "ceria_waves"
    slabs.make_waves(waves, slabs_made, progress=True)
    origin |= {"slabs": slabs_made}
    pixels = write_pixels(folder, images=images, steps=steps, device=device, start=start, **origin)
    pools = [
        SitePool(
            **kept(
                folder / f"sites.{part}.safetensors",
                lambda part=part, each=each, seed=seed: draw_sites(
                    waves, part, each, seed=seed, progress=True
                ),
                images=each,
                seed=seed,
            )
        )
        for part, each, seed in (("train", 40, 11), ("validation", 4, 12))
    ]
    result = learning_sites.learn_columns(
        *pools,
        replace(learning_sites.SETTINGS, steps=site_steps),
        checkpoint=folder / "sites.training.safetensors",
        device=device_named(device),
        progress=True,
    )
    record = {"trained_for": learning.TRAINED_FOR, **origin}
    path = folder / "checkpoints" / "occupancy_sites.safetensors"
    result.network.cpu()
    result.save(path, **record)
    counter = load_counter(pixels, path)
    weights = judging.weights_of(counter, slabs.slabs(waves, "validation"), seed=4)
    counter.calibration = replace(counter.calibration, evidence=weights)
    judged = judging.judge(counter, slabs.slabs(waves, "validation"), images=4, seed=5)
    calibration = judging.calibrate(judged, weights)
    return result.save(path, calibration=asdict(calibration), **record)


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--slabs", type=int, default=2400, dest="slabs_made")
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--steps", type=int, default=learning.SETTINGS.steps)
    parser.add_argument("--site-steps", type=int, default=learning_sites.SETTINGS.steps)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--start", type=Path)
    given = vars(parser.parse_args())
    print(write(given.pop("output"), made_by="data/learn_occupancy.py", **given))


if __name__ == "__main__":
    main()

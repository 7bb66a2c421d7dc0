"""A reader's movie, measured: tables in units, and one sentence where it cannot be."""

import csv
import json

import numpy as np
import pytest
import tifffile

from insitu import InputError, own
from insitu.measure.following import turning

PIXEL, TIME = 0.24, 0.02
A = np.array([[-1.96, 1.386], [1.96, 1.386]])  # 2.40 A each
SHAPE, FRAMES = (110, 110), 30


def places():
    """Columns of a particle without any symmetry."""
    n = np.stack(np.mgrid[-6:7, -6:7], -1).reshape(-1, 2)
    p = n @ A
    return p[(np.abs(p) < (9, 7)).all(1) & (p.sum(1) < 11)] + 13.1


def film(*, angle=0.0, drift=(0, 0), gone=None, height=4.0, level=1.0):
    """Expected counts: the particle turns and drifts, and its column `gone` leaves at frame 15."""
    y, x = np.indices(SHAPE) * PIXEL
    frames = []
    for t in range(FRAMES):
        image = np.full(SHAPE, level)
        for k, place in enumerate(places()):
            if k == gone and t >= 15:
                continue
            at = (place - 13.1) @ turning(angle * t / FRAMES) + 13.1 + np.multiply(drift, t)
            square = (y - at[0]) ** 2 + (x - at[1]) ** 2
            image += height * np.exp(-square / (2 * 0.45**2))
        frames.append(image)
    return np.array(frames)


def measure(folder, counts, clean, **options):
    paths = folder / "counts.tif", folder / "denoised.npy"
    tifffile.imwrite(paths[0], counts.astype(np.uint8))
    np.save(paths[1], clean.astype(np.float32))
    given = {"denoised": paths[1], "pixel_size": PIXEL, "frame_time": TIME, "progress": False}
    return own.measure(paths[0], folder / "out", **given | options)


def rows(folder, name):
    with (folder / "out" / name).open() as file:
        return list(csv.DictReader(file))


def test_a_column_that_vanishes_from_a_particle_that_turns_and_drifts(tmp_path):
    """5 px of drift over the frames a column takes to be told, and a lost frame."""
    gone = int(np.argmin(np.linalg.norm(places() - 13.1, axis=1)))
    clean = film(angle=6, drift=(0.1, -0.1), gone=gone)
    counts = np.random.default_rng(0).poisson(clean)
    counts[7], clean[7] = 0, 1.0  # the beam was off
    numbers = measure(tmp_path, counts, clean)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == numbers
    assert numbers["frames_lost"] == 1
    assert numbers["turn_degrees"] == pytest.approx(6 * 29 / 30, abs=0.3)
    (event,) = rows(tmp_path, "events.csv")
    assert event["kind"] == "vanishes"
    assert float(event["earliest_s"]) <= 15 * TIME <= float(event["latest_s"])
    frames = rows(tmp_path, "frames.csv")
    assert frames[7]["turn_degrees"] == ""
    assert float(frames[29]["strain_yy"]) == pytest.approx(0, abs=0.01)
    told = [r for r in rows(tmp_path, "columns.csv") if r["column"] == event["column"]]
    assert (
        float(told[0]["probability_present"]) > 0.9 > 0.1 > float(told[-1]["probability_present"])
    )
    sure = [r for r in rows(tmp_path, "columns.csv") if float(r["probability_present"]) > 0.9]
    names = [[f"{k}_counts_angstrom", f"{k}_angstrom", f"{k}_error_angstrom"] for k in "yx"]
    z = [
        (float(r[at]) - float(r[site])) / float(r[error])
        for r in sure
        if r["electrons"]
        for at, site, error in names
    ]
    assert np.std(z) == pytest.approx(1, abs=0.12)
    assert "measured" in (tmp_path / "out" / "report.html").read_text()


def test_names_are_kept_where_a_frame_moves_by_five_pixels(tmp_path):
    drift = np.where(np.arange(FRAMES) % 2, 1.2, 0)[:, None] * [0, 1]
    clean = np.stack([np.roll(f, int(d[1] / PIXEL), 1) for f, d in zip(film(), drift, strict=True)])
    numbers = measure(tmp_path, np.random.default_rng(1).poisson(clean), clean)
    assert numbers["frames_lost"] == 0
    assert numbers["events"] == 0
    assert numbers["columns_present_last"] == pytest.approx(len(places()), abs=0.5)


def test_columns_on_the_border_have_no_name(tmp_path):
    clean = film()[:, 30:, 30:]
    numbers = measure(tmp_path, np.random.default_rng(2).poisson(clean), clean)
    inside = (places() - 30 * PIXEL > 1.0).all(1).sum()
    assert 0 < numbers["columns_named"] <= inside
    assert numbers["events"] == 0


def test_what_cannot_be_measured_is_one_sentence(tmp_path):
    empty = np.full((FRAMES, *SHAPE), 1.0)
    counts = np.random.default_rng(3).poisson(empty)
    with pytest.raises(InputError, match="has a crystal"):
        measure(tmp_path, counts, empty)
    with pytest.raises(InputError, match="has a crystal"):
        measure(tmp_path, counts, counts + 0.01)  # noise has blobs
    with pytest.raises(InputError, match="its median is not above 0"):
        measure(tmp_path, counts, 0 * empty)
    for options, words in (
        ({"frame_time": 0.0}, "movie_frame_time: the file does not tell"),
        ({"pixel_size": 1.0}, "pixels up to 0.5 A"),
        ({"frames": "0:3"}, "3 frames; events need 5"),
    ):
        with pytest.raises(InputError, match=words):
            measure(tmp_path, counts, empty, **options)
    with pytest.raises(InputError, match="their shapes differ"):
        measure(tmp_path, counts, empty[1:])

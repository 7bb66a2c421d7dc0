"""A reader's own pair of files before the judge: `insitu.own.judge`."""

import csv
import json

import numpy as np
import PIL.Image
import pytest
import tifffile
import torch

from insitu import InputError, own
from insitu.counting.categorical import Categorical
from insitu.counting.poisson import Poisson
from insitu.trust.report import report


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Counts, their truth, and other counts of the same place; one atom is only in the truth."""
    folder = tmp_path_factory.mktemp("pair")
    y, x = np.mgrid[:96, :80]
    clean = np.full((96, 80), 0.5)
    places = [(cy, cx) for cy in range(30, 80, 12) for cx in range(16, 70, 12)]
    for cy, cx in places:
        clean += 0.5 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 12)
    rng = np.random.default_rng(0)
    counts, others = rng.poisson(clean, (2, 16, 96, 80)).astype(np.uint8)
    clean[(y - 14) ** 2 + (x - 40) ** 2 < 9] = 0.9  # forged
    denoised = np.repeat(clean[None], 16, axis=0).astype(np.float32)
    for name, array in (("counts", counts), ("denoised", denoised), ("others", others)):
        tifffile.imwrite(folder / f"{name}.tif", array)
    return folder, len(places)


def judge(folder, out, denoised="denoised", **options):
    return own.judge(
        folder / "counts.tif", folder / f"{denoised}.tif", out, progress=False, **options
    )


def test_the_card_is_written_as_it_is_returned(pair, tmp_path):
    lines = judge(pair[0], tmp_path / "out")
    record = json.loads((tmp_path / "out" / "card.json").read_text())
    assert [line["line"] for line in record] == [line.line for line in lines]
    assert set(record[0]) == {
        *("line", "region", "value", "error", "low", "high", "verdict", "words")
    }
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["scale"] == pytest.approx(lines[0].value)
    assert {line.region for line in lines} == {"all"}  # no pixel size
    assert lines[0].words in (tmp_path / "out" / "report.html").read_text()
    assert np.load(tmp_path / "out" / "z.npy").shape == (96, 80)
    assert not (tmp_path / "out" / "candidates.csv").exists()
    assert not (tmp_path / "out" / "columns.csv").exists()


def test_a_blank_frame_turns_no_verdict(pair, tmp_path):
    folder, _ = pair
    counts, shown = (tifffile.imread(folder / f"{n}.tif") for n in ("counts", "denoised"))
    for name, array in (("counts", counts), ("denoised", shown)):
        np.save(tmp_path / f"{name}.npy", np.insert(array, 5, 0, axis=0))
    blank = [tmp_path / "counts.npy", tmp_path / "denoised.npy", tmp_path / "blank"]
    lines = own.judge(*blank, pixel_size=0.25, progress=False)
    assert lines == judge(folder, tmp_path / "good", pixel_size=0.25)
    report = (tmp_path / "blank" / "report.html").read_text()
    assert "Frame 5 (the first is 0) is blank" in report


def test_columns_are_judged_one_by_one_and_the_card_by_region(still, tmp_path):
    """One is forged, one left out; a part keeps the places of the whole frame."""
    forged, left_out = (28.0, 94.0), still.places[14]
    shown = still.movie([*np.delete(still.places, 14, 0), forged])
    np.save(tmp_path / "counts.npy", still.counts.astype(np.uint8))
    np.save(tmp_path / "denoised.npy", shown)
    files, out = (tmp_path / "counts.npy", tmp_path / "denoised.npy"), tmp_path / "out"
    for crop, corner in (("", (0, 0)), ("4:112,2:110", (4, 2))):
        options = {"pixel_size": still.size, "vacuum": "99:111,2:110", "crop": crop}
        own.judge(*files, out, progress=False, **options)
        record = json.loads((out / "card.json").read_text())
        assert {line["region"] for line in record} == {"all", "vacuum", "bulk", "surface"}
        results = json.loads((out / "results.json").read_text())
        for line in record:
            if line["value"] is not None:
                name = line["line"] + f"_{line['region']}" * (line["region"] != "all")
                assert results[name] == pytest.approx(line["value"])
        with (out / "columns.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == results["columns"] == len(still.places) + 1
        table = {
            k: np.array([float(row[k] or "nan") for row in rows]) for k in rows[0] if k != "kind"
        }
        places = np.column_stack([table["y_px"], table["x_px"]])
        angstrom = np.column_stack([table["y_angstrom"], table["x_angstrom"]])
        assert angstrom == pytest.approx(places * still.size, rel=1e-4)
        far = [np.hypot(*(places - p - 0.5).T) for p in (forged, left_out, *still.places)]
        assert max(f.min() for f in far) < 1
        extra, absent = far[0].argmin(), far[1].argmin()
        off = (table["slope"] - 1) / table["slope_error"]
        assert off[extra] < -5
        assert abs(table["contrast_kept"][absent]) < 0.3
        others = np.delete(np.arange(len(rows)), [extra, absent])
        assert abs(off[others]).max() < 4
        assert abs(table["contrast_kept"][others] - 1).max() < 0.5
        assert {rows[n]["kind"] for n in others} == {"bulk", "surface"}
        assert 1 <= results["columns_not_there"] < 5
        assert results["columns_agree"] > 0.8 * len(rows)
        shape = still.counts.shape[1:] if not crop else (108, 108)
        z = np.load(out / "z_column.npy")
        assert z.shape == np.load(out / "z.npy").shape == shape
        peak = np.array(np.unravel_index(z.argmax(), shape)) + corner
        assert np.hypot(*(peak - np.array(forged) - 0.5)) < 2
        assert colours(out / "columns.png") >= {(0x56, 0xB4, 0xE9), (0xD5, 0x5E, 0x00)}
        assert "columns are in either average" in (out / "report.html").read_text()
        in_vacuum = next(line for line in record if line["region"] == "vacuum")
        assert in_vacuum["error"] == pytest.approx((2 * 12 * 108 * 40) ** -0.5, rel=0.05)
    own.judge(*files, out, progress=False)
    for name in ("columns.csv", "columns.png", "z_column.npy"):
        assert not (out / name).exists(), name  # of the earlier run


def colours(path):
    with PIL.Image.open(path) as image:
        return {colour for _, colour in image.convert("RGB").getcolors(100_000)}


def test_with_evidence_there_are_p_values_and_without_a_score(pair, tmp_path):
    folder, number = pair
    options = {"pixel_size": 0.2, "vacuum": "0:8,0:80"}
    judge(folder, tmp_path / "out", evidence=folder / "others.tif", **options)
    with (tmp_path / "out" / "candidates.csv").open() as file:
        names = file.readline().strip().split(",")
        rows = np.loadtxt(file, delimiter=",")
    table = dict(zip(names, rows.T, strict=True))
    assert names[-2:] == ["p_value", "supported"]
    forged = np.hypot(table["y_angstrom"] - 2.8, table["x_angstrom"] - 8) < 0.3
    assert forged.sum() == 1
    assert not table["supported"][forged]
    assert table["supported"][~forged].all()
    assert len(rows) == number + 1
    judge(folder, tmp_path / "out", **options)  # the earlier files do not stay
    assert "p_value" not in (tmp_path / "out" / "candidates.csv").read_text()
    assert "score only" in (tmp_path / "out" / "report.html").read_text()
    judge(folder, tmp_path / "out")
    assert not (tmp_path / "out" / "candidates.csv").exists()


def test_dark_atoms_are_tested_as_such(pair, tmp_path):
    """Contrast in reverse: columns darker than vacuum, and one that is only in the picture."""
    folder, number = pair
    denoised = 1.1 - tifffile.imread(folder / "denoised.tif")
    y, x = np.mgrid[:96, :80]
    clean = np.where((y - 14) ** 2 + (x - 40) ** 2 < 9, 0.6, denoised[0])
    counts, others = np.random.default_rng(3).poisson(clean, (2, 40, 96, 80)).astype(np.uint8)
    denoised = np.repeat(denoised[:1], 40, axis=0)
    for name, array in (("counts", counts), ("denoised", denoised), ("others", others)):
        tifffile.imwrite(tmp_path / f"{name}.tif", array)
    options = {"pixel_size": 0.2, "vacuum": "0:8,0:80"}
    judge(tmp_path, tmp_path / "out", evidence=tmp_path / "others.tif", **options)
    with (tmp_path / "out" / "candidates.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    forged = [abs(row["y_angstrom"] - 2.8) < 0.4 for row in rows]
    assert sum(forged) == 1
    assert len(rows) == number + 1
    for row, false in zip(rows, forged, strict=True):
        assert row["sign"] == -1
        assert row["supported"] == (not false)
        assert false or row["score"] > 3
    assert f"0 bright and {number + 1} dark atoms" in (tmp_path / "out" / "report.html").read_text()


def test_candidates_of_a_part_keep_the_place_in_the_whole(pair, tmp_path):
    folder, number = pair
    judge(folder, tmp_path / "out", frames="2:14", crop="8:90,4:80", pixel_size=0.2)
    rows = np.loadtxt(tmp_path / "out" / "candidates.csv", delimiter=",", skiprows=1)
    assert number / 2 < len(rows) <= number + 1
    off = (rows[:, :2] / 0.2 - [30, 16]) % 12
    assert (np.minimum(off, 12 - off).max(1) < 0.5).sum() >= len(rows) - 1


def test_an_image_is_judged_as_far_as_one_frame_tells(pair, tmp_path):
    folder, _ = pair
    for name in ("counts", "denoised"):
        tifffile.imwrite(tmp_path / f"{name}.tif", tifffile.imread(folder / f"{name}.tif")[0])
    verdicts = {line.line: line.verdict for line in judge(tmp_path, tmp_path / "out")}
    assert verdicts["average"] == verdicts["error_other_frames"] == "unknown"
    assert verdicts["scale"] in ("pass", "unknown")


def test_bad_input_stops_before_any_work(pair, tmp_path):
    folder, _ = pair
    denoised = tifffile.imread(folder / "denoised.tif")
    denoised[3, 4, 5] = np.nan
    np.save(tmp_path / "nan.npy", denoised)
    np.save(tmp_path / "short.npy", denoised[1:])
    np.save(tmp_path / "zero.npy", np.zeros_like(denoised))
    counts = tifffile.imread(folder / "counts.tif")
    np.save(tmp_path / "same.npy", counts)
    counts[:, :10] = 0
    np.save(tmp_path / "dark.npy", counts)
    np.save(tmp_path / "narrow.npy", counts[:, :, 1:])
    np.save(tmp_path / "grey.npy", counts - 0.5)
    raw, good = folder / "counts.tif", folder / "denoised.tif"
    cases = [
        ((raw, tmp_path / "nan.npy"), {}, "denoised: 1 values are NaN"),
        ((raw, tmp_path / "short.npy"), {}, "their shapes differ"),
        ((raw, tmp_path / "none.tif"), {}, "there is no file"),
        (("", good), {}, "give the movie of counts"),
        ((raw, ""), {}, "denoised, too"),
        ((tmp_path / "grey.npy", good), {}, "never negative"),
        ((raw, good), {"vacuum": "0:8,0:80"}, "movie_pixel_size: counts.tif does not tell it"),
        ((raw, good), {"vacuum": "0:8", "pixel_size": 0.2}, "give a box as y0:y1,x0:x1"),
        ((raw, good), {"vacuum": "0:8,0:81", "pixel_size": 0.2}, "no box of at least 4 x 4"),
        ((raw, good), {"vacuum": "8:8,0:80", "pixel_size": 0.2}, "no box of at least 4 x 4"),
        ((raw, good), {"vacuum": "-8:8,0:80", "pixel_size": 0.2}, "no box of at least 4 x 4"),
        (
            (raw, good),
            {"vacuum": "0:8,0:80", "pixel_size": 0.2, "crop": "4:90,0:80"},
            "lies outside of movie_crop",
        ),
        ((raw, good), {"vacuum": "0:8,0:80", "pixel_size": 0.2, "crop": "8:8,0:80"}, "no box"),
        ((raw, good), {"vacuum": "0:8,0:80", "pixel_size": float("nan")}, "allowed is 0 to 100"),
        ((tmp_path / "dark.npy", good), {"vacuum": "0:8,0:80", "pixel_size": 0.2}, "no electron"),
        ((raw, good), {"evidence": raw, "pixel_size": 0.2}, "is the movie itself"),
        ((raw, good), {"evidence": tmp_path / "same.npy", "pixel_size": 0.2}, "the movie itself"),
        (
            (tmp_path / "dark.npy", good),
            {"vacuum": "0:8,0:80", "pixel_size": 0.6},
            "no electron of movie",
        ),
        (
            (raw, tmp_path / "zero.npy"),
            {"vacuum": "0:8,0:80", "pixel_size": 0.2},
            "its average is not above 0",
        ),
        (
            (raw, good),
            {"evidence": tmp_path / "dark.npy", "pixel_size": 0.2, "vacuum": "0:8,0:80"},
            "no electron of evidence",
        ),
        ((raw, good), {"evidence": tmp_path / "narrow.npy", "pixel_size": 0.2}, "the same place"),
        ((raw, good), {"evidence": tmp_path / "none.npy", "pixel_size": 0.2}, "there is no file"),
        ((raw, good), {"frames": "9:99,1"}, "give frames as first:last"),
        ((raw, good), {"device": "tpu"}, "allowed is one of auto"),
    ]
    for files, options, words in cases:
        with pytest.raises(InputError, match=words):
            own.judge(*files, tmp_path / "out", progress=False, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("detector", [Poisson(), Categorical.sub_frames(3)])
def test_noise_is_that_of_the_detector_that_counted(tmp_path, detector):
    """Counts that are not Poisson's are held against the detector that fits them."""
    rows = torch.arange(96.0)[:, None]
    clean = (0.8 + 0.3 * torch.cos(rows / 4) * torch.cos(rows.T / 4)).repeat(24, 1, 1)
    counts = detector.sample(clean, torch.Generator().manual_seed(0))
    tifffile.imwrite(tmp_path / "counts.tif", counts.numpy().astype(np.uint8))
    tifffile.imwrite(tmp_path / "denoised.tif", clean.numpy())
    lines = judge(tmp_path, tmp_path / "out")
    assert not [line for line in lines if line.verdict == "fail"]
    poisson = report(counts.numpy(), clean.numpy())[1]
    assert poisson.line == "residual"
    assert (abs(poisson.value - 1) > 0.2) == isinstance(detector, Categorical)
    fitted = "Categorical" in (tmp_path / "out" / "report.html").read_text()
    assert fitted == isinstance(detector, Categorical)

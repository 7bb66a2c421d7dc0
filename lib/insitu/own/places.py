"""Columns and atoms of a reader's denoised movie, place by place: tables, maps, and words."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.spatial import cKDTree

from insitu.files import ResultsFolder
from insitu.trust import columns, regions, regression
from insitu.trust.report import Examined

if TYPE_CHECKING:
    from insitu.counting.detector import Detector

ENOUGH = 20  # places of a null distribution
ALONE = 3.0  # A from all columns, where an atom of the other sign is one
BLUE, ORANGE, RED, GREY = "#56B4E9", "#E69F00", "#D55E00", "#999999"


def write_columns(
    results: ResultsFolder, examined: Examined, pixel_size: float, corner: Sequence[int]
) -> tuple[str, dict[str, float], NDArray[Any]]:
    """Judge the columns one by one, and write them: in words, in numbers, and as a map."""
    y, f, v, found = examined.raw, examined.denoised, examined.variance, examined.regions
    assert found is not None  # as there is a pixel size
    each = regression.by_column(
        y, f, v, found.positions, regions.DISC / pixel_size, regions.FINE / pixel_size
    )
    where = found.positions + np.array(corner)
    header = ["y_angstrom", "x_angstrom", "y_px", "x_px", "kind"]
    header += ["slope", "slope_error", "contrast_kept", "contrast_kept_error"]

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(header)
            for place, kind, *values in zip(where, found.kind, *each, strict=True):
                at = [f"{n:.6g}" for n in (*place * pixel_size, *place)]
                told = [f"{n:.4g}" if np.isfinite(n) else "" for n in values]
                table.writerow([*at, kind, *told])

    results.write("columns.csv", write)
    off = np.where(np.isfinite(each.slope), (each.slope - 1) / each.slope_error, np.nan)
    colours = np.select([np.isnan(off), off > 2, off < -2], [GREY, ORANGE, RED], BLUE)
    drawn = marked(f.mean(0), found.positions, colours)
    results.write("columns.png", lambda path: Image.fromarray(drawn).save(path, "PNG"))
    agree, lost, absent = (int((colours == c).sum()) for c in (BLUE, ORANGE, RED))
    words = (
        f"{len(off)} columns are in either average. The counts follow the denoised movie in "
        f"{agree} of them within 2 standard errors (blue); in {lost} its contrast is too small "
        f"(orange), in {absent} a part of it is not in the counts (red). By chance alone 1 in 20 "
        "is not blue."
    )
    names = ("columns", "columns_agree", "columns_lost", "columns_not_there")
    numbers = dict(zip(names, map(float, (len(off), agree, lost, absent)), strict=True))
    return words, numbers, drawn


def write_candidates(
    results: ResultsFolder,
    examined: Examined,
    evidence: NDArray[np.int32] | None,
    detector: Detector | None,
    pixel_size: float,
    vacuum: tuple[slice, slice],
    corner: Sequence[int],
) -> tuple[str, dict[str, float], NDArray[Any]]:
    """Test the atoms of the denoised average, and write them: in words, in numbers, as a map.

    They have the sign of the columns, bright or dark, and the other one where no such column is
    within 3 A: nearer to columns that is the dark ring of a lens, or a gap between them.
    """
    from insitu.trust import likelihood  # which loads torch

    electrons = examined.raw if evidence is None else evidence
    picture = examined.denoised.mean(0)
    sign = -1 if examined.regions and examined.regions.dark else 1
    usual, other = (
        columns.find_columns(
            s * picture / np.median(picture[vacuum]),
            pixel_size,
            threshold=0.15,
            border=likelihood.EDGE,
        ).positions
        for s in (sign, -sign)
    )
    if len(usual) and len(other):
        other = other[cKDTree(usual).query(other)[0] > ALONE]
    at = np.concatenate([usual, other])
    where = at / pixel_size
    signs = np.repeat([sign, -sign], [len(usual), len(other)])
    told = detector if len(where) else None  # nothing can be asked of one at no place
    good, test = likelihood.supported(electrons, where, pixel_size, told, dark=signs < 0)
    table: dict[str, NDArray[Any]] = {
        "y_angstrom": at[:, 0] + corner[0] * pixel_size,
        "x_angstrom": at[:, 1] + corner[1] * pixel_size,
        "sign": signs,
        "electrons": test.electrons,
        "expected_without": test.expected,
        "score": signs * test.z,
    }
    dark = int((signs < 0).sum())
    numbers = {"candidates": float(len(where)), "candidates_dark": float(dark)}
    seen = f"{len(where) - dark} bright and {dark} dark atoms are seen in the denoised average"
    if evidence is None:
        good = signs * test.z > 0
        numbers["candidates_agree"] = float(good.sum())
        words = (
            f"{seen}, and {good.sum()} of them hold more electrons than the ring around, or fewer "
            "if they are dark. That is a score only: the same electrons chose the places, so it "
            "has no p-value. Give other frames of the same place as evidence."
        )
    else:
        table |= {"p_value": test.p_value, "supported": good}
        numbers["candidates_supported"] = float(good.sum())
        words = (
            f"{seen}; {len(electrons)} other frames support {good.sum()} of them, of which at most "
            "2 % are expected to be false: they hold more electrons than the ring around, or "
            "fewer if they are dark."
        )
        null = _null(electrons, pixel_size, vacuum, detector)
        if len(null) >= ENOUGH:
            numbers["null_below_0.05"] = float((null < 0.05).mean())
            words += (
                f" The same test at {len(null)} places in the vacuum, where no atom is, has "
                f"p < 0.05 in {(null < 0.05).mean():.1%} (5 % or less is right)."
            )
    rows, header = np.column_stack(list(table.values())), ",".join(table)
    results.write(
        "candidates.csv",
        lambda path: np.savetxt(path, rows, "%.6g", ",", header=header, comments=""),
    )
    drawn = marked(picture, where, np.where(good, BLUE, ORANGE))
    results.write("likelihood_map.png", lambda path: Image.fromarray(drawn).save(path, "PNG"))
    return words, numbers, drawn


def _null(
    electrons: NDArray[Any],
    pixel_size: float,
    vacuum: tuple[slice, slice],
    detector: Detector | None,
) -> NDArray[Any]:
    """p-values of places in the vacuum, whose rings do not overlap."""
    from insitu.trust import likelihood

    apart = 2 * likelihood.RING[1] / pixel_size
    ends = [(v.start + apart / 2, v.stop - apart / 2) for v in vacuum]
    places = np.stack(np.meshgrid(*(np.arange(*e, apart) for e in ends), indexing="ij"), -1)
    if not places.size:  # the box is narrower than a ring
        return np.zeros(0)
    return likelihood.ring_test(electrons, places.reshape(-1, 2), pixel_size, detector).p_value


def marked(picture: NDArray[Any], positions: NDArray[Any], colours: NDArray[Any]) -> NDArray[Any]:
    """The picture, enlarged, with a ring of its colour on each position."""
    zoom = max(1, round(480 / max(picture.shape)))
    low, high = np.percentile(picture, (0, 99.5))
    grey = (np.clip((picture - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(np.kron(grey, np.ones((zoom, zoom), np.uint8))).convert("RGB")
    draw, r = ImageDraw.Draw(image), max(image.size) / 40
    for (y, x), colour in zip((positions + 0.5) * zoom, colours, strict=True):
        draw.ellipse((x - r, y - r, x + r, y + r), outline=str(colour), width=max(2, round(r / 4)))
    return np.asarray(image)

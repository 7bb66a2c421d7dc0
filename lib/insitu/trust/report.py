"""A card for any denoised movie: what can be said of it, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu.counting.diagnosis import Finding
from insitu.trust import averaging, metrics, without_truth
from insitu.trust.averaging import CountModel, frames_of

Array = NDArray[np.float64]
FEWEST = 8  # frames of which an average says something


def report(
    raw: ArrayLike,
    denoised: ArrayLike,
    *,
    truth: ArrayLike | None = None,
    detector: CountModel | None = None,
    still: slice | None = None,
    peak: float = 1.0,
) -> list[Finding]:
    """Judge a denoised movie, of whatever program, by its raw counts.

    Parameters
    ----------
    raw, denoised : (t, y, x) arrays
        Electrons per pixel and frame.
    truth : (t, y, x) array, optional
        Clean frames, where they are known.
    detector : CountModel, optional
        With which the counts were recorded; Poisson's by default.
    still : slice, optional
        Frames in which nothing moves; all by default.
    peak : float
        Of the PSNR [e-/px].

    Returns
    -------
    list of Finding
        Question, answer in words, what was measured, what is allowed, and whether it is good.

    Raises
    ------
    InputError
        If the movies are not of one shape, or hold NaN.
    """
    y, f = frames_of(raw, denoised)
    noise = y
    if detector is not None:
        brightest = max(float(f.max()), 0.1)
        table = without_truth.noise_of_counts(detector, brightest, int(y.max()))
        noise = table[y.astype(np.int64)]
    variance = averaging.variance_of(detector, np.maximum(f, 0.02 * float(f.mean())))
    residual = (y - f) / np.sqrt(variance)
    findings = [_scale(y, f), _size(y, f, noise), _white(residual), _related(residual, f)]
    frames = y[still or slice(None)], f[still or slice(None)]
    if len(frames[0]) >= FEWEST:
        findings.append(_average(*frames, detector))
    findings.append(_error(y, f, detector, peak))
    if truth is not None:
        findings.append(_with_truth(f, frames_of(truth, f)[0], peak))
    return findings


def _scale(y: Array, f: Array) -> Finding:
    ratio = float(f.mean() / y.mean()) - 1
    good = abs(ratio) < 0.02
    return Finding(
        "Is it in electrons?",
        "Yes." if good else "No: other units, or a bias; all that follows is in doubt.",
        f"mean {f.mean():.4g}, {ratio:+.2%} off that of the counts",
        "within 2 %",
        good,
    )


def _size(y: Array, f: Array, noise: Array) -> Finding:
    """Mean square of the residual over that of counting."""
    part = without_truth.averaged((y - f) ** 2 - noise)
    ratio, width = 1 + part.mse / float(noise.mean()), part.high - part.low
    width /= 4 * float(noise.mean())
    if ratio < 1 - 3 * width:
        words = "Too little was taken out: it has seen the counts that it is held against."
    elif ratio > 1.02 + 2 * width:
        words = "More than noise was taken out: something of the specimen is missing."
    else:
        words = "As much was taken out as counting puts in."
    good = words.startswith("As")
    return Finding(
        "Was noise taken out, and only noise?",
        words,
        f"residual {ratio:.4f} +- {width:.4f} of the noise's variance",
        "1 within three errors, to 1.02",
        good,
    )


def _white(residual: Array) -> Finding:
    r = residual - residual.mean()
    values = {
        "column": (r[:, :, 1:] * r[:, :, :-1]).mean(),
        "row": (r[:, 1:] * r[:, :-1]).mean(),
        "frame": (r[1:] * r[:-1]).mean() if len(r) > 1 else 0.0,
    }
    values = {k: float(v / r.var()) for k, v in values.items()}
    name = max(values, key=lambda k: abs(values[k]))
    good = abs(values[name]) < 0.02
    answer = (
        "Yes: what was taken out has no pattern."
        if good
        else f"No: what was taken out is alike from {name} to {name}."
    )
    return Finding(
        "Is what was taken out white?",
        answer,
        ", ".join(f"next {k} {v:+.4f}" for k, v in values.items()),
        "at most 0.02",
        good,
    )


def _related(residual: Array, f: Array) -> Finding:
    value = float(np.corrcoef(residual.ravel(), f.ravel())[0, 1])
    good = abs(value) < 0.02
    answer = (
        "No."
        if good
        else (
            "Yes: contrast was lost, or a pixel keeps its own noise."
            if value > 0
            else "Yes: contrast was exaggerated, or noise of other counts kept."
        )
    )
    return Finding(
        "Is what was taken out related to the picture?",
        answer,
        f"correlation {value:+.4f}",
        "at most 0.02",
        good,
    )


def _average(y: Array, f: Array, detector: CountModel | None) -> Finding:
    found = averaging.agreement(y, f, detector=detector)
    good = abs(found.mean) < 0.05 and found.deviation < 1.1
    answer = (
        "Yes, within counting noise."
        if good
        else "No: the average shows what the denoised frames do not, or the other way round. If "
        "nothing moved, do not believe them."
    )
    return Finding(
        f"Does it agree with the average of {found.frames} frames?",
        answer,
        f"z {found.mean:+.3f} +- {found.deviation:.3f}",
        "mean within 0.05, deviation at most 1.1",
        good,
    )


def _error(y: Array, f: Array, detector: CountModel | None, peak: float) -> Finding:
    routes: dict[str, Any] = {
        "own counts": without_truth.from_own_count(f, y, detector=detector),
    }
    if len(y) > 10:
        routes["frames 3 to 5 away"] = without_truth.from_other_frames(f, y)
    good = all(e.high > 0 for e in routes.values())
    texts = [
        f"by {name} {e.psnr(peak):.1f} dB" if e.mse > 0 else f"by {name} none (negative)"
        for name, e in routes.items()
    ]
    return Finding(
        "How large is its error, without a truth?",
        "uPSNR " + ", ".join(texts) + ".",
        ", ".join(f"{e.low:.5f} to {e.high:.5f}" for e in routes.values()),
        "an error above 0",
        good,
    )


def _with_truth(f: Array, truth: Array, peak: float) -> Finding:
    value = metrics.psnr(f, truth, peak=peak)
    floor = metrics.psnr(np.full_like(truth, truth.mean()), truth, peak=peak)
    return Finding(
        "How large is it really?",
        f"PSNR {value:.2f} dB, peak {peak:g}.",
        f"the best constant has {floor:.2f} dB",
        "above the constant",
        value > floor,
    )

import json
import subprocess
import sys
import warnings
from dataclasses import asdict

import numpy as np
import pytest
from scipy import ndimage

from insitu import InputError
from insitu.counting.categorical import Categorical
from insitu.trust.report import report

LINES = [
    "scale",
    "residual",
    "whiteness",
    "independence",
    "average_mean",
    "average_deviation",
    "error_own_counts",
    "error_other_frames",
]


@pytest.fixture(scope="module")
def movie():
    y, x = np.mgrid[:64, :64]
    clean = 0.6 * (1 + 0.7 * np.cos(0.5 * x) * np.cos(0.4 * y)) * np.ones((24, 1, 1))
    return clean, np.random.default_rng(0).poisson(clean)


def card(*args, **options):
    return {line.line: line for line in report(*args, **options)}


def test_the_truth_passes_all(movie):
    clean, counts = movie
    lines = card(counts, clean, truth=clean)
    assert list(lines) == [*LINES, "error_true"]
    assert {line.verdict for line in lines.values()} == {"pass"}


def test_verdicts_are_those_of_the_numbers(movie):
    """Who reads card.json alone comes to the same verdicts."""
    clean, counts = movie
    for denoised in (clean, 1.1 * clean, ndimage.gaussian_filter(clean, (0, 6, 6)), counts / 1.0):
        for line in report(counts, denoised, truth=clean):
            if line.verdict == "unknown":
                continue
            low = -np.inf if line.low is None else line.low
            high = np.inf if line.high is None else line.high
            assert (low <= line.value <= high) == (line.verdict == "pass"), line


def test_who_has_seen_the_counts_is_found_out(movie):
    _, counts = movie
    seeing = ndimage.uniform_filter1d(counts.astype(float), 5, axis=0)
    found = card(counts, seeing)
    assert "has seen the counts" in found["residual"].words
    assert found["residual"].verdict == found["error_own_counts"].verdict == "fail"


def test_blur_and_units_are_found_out(movie):
    clean, counts = movie
    blurred = ndimage.gaussian_filter(clean, (0, 6, 6))
    found = card(counts, blurred)
    assert "missing" in found["residual"].words
    assert found["average_deviation"].verdict == "fail"
    assert found["whiteness"].verdict == "fail"
    assert card(counts, 60 * clean)["scale"].verdict == "fail"


def test_invented_contrast_is_found_out(movie):
    clean, counts = movie
    bold = clean.mean() + 1.4 * (clean - clean.mean())
    assert "exaggerated" in card(counts, bold)["independence"].words
    faint = clean.mean() + 0.6 * (clean - clean.mean())
    assert "lost" in card(counts, faint)["independence"].words


def test_a_detector_that_counts_once_is_allowed_for():
    four = Categorical.sub_frames(4)
    rng = np.random.default_rng(1)
    clean = np.full((24, 64, 64), 1.5)
    counts = rng.binomial(4, clean / 4)
    assert card(counts, clean)["residual"].verdict == "fail"
    assert card(counts, clean, detector=four)["residual"].verdict == "pass"


@pytest.mark.parametrize("frames", [1, 2, 7, 9])
def test_few_frames_are_not_judged(movie, frames):
    clean, counts = movie
    lines = card(counts[:frames], clean[:frames])
    assert list(lines) == LINES
    assert lines["error_other_frames"].verdict == "unknown"
    assert (lines["average_mean"].verdict == "unknown") == (frames < 8)
    assert "too few" in lines["average_mean"].words or frames > 7
    assert "fail" not in {line.verdict for line in lines.values()}


def test_what_is_not_finite_is_unknown_and_no_nan_is_said(movie):
    """Movies of zeros, even ones, tiny ones: no warning, no NaN, nothing that JSON has not."""
    clean, counts = movie
    zero = np.zeros((12, 20, 20))
    pairs = [
        (zero, zero),
        (zero, zero + 0.5),
        (counts, np.full(clean.shape, clean.mean())),
        (counts, clean * 0),
        (counts[:1, :16, :16], clean[:1, :16, :16]),
        (counts, counts),
        (counts[:1, :1, :1], clean[:1, :1, :1]),
    ]
    for raw, denoised in pairs:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lines = report(raw, denoised)
        text = json.dumps([asdict(line) for line in lines], allow_nan=False)
        assert "nan" not in text.lower()
        assert "inf" not in text.replace("information", "")
        for line in lines:
            assert line.verdict == "unknown" or line.value is not None
    assert card(zero, zero)["scale"].verdict == "unknown"


def test_other_shapes_give_a_sentence(movie):
    clean, counts = movie
    with pytest.raises(InputError, match="one shape"):
        report(counts, clean[1:])
    with pytest.raises(InputError, match="denoised: 1 values are NaN"):
        report(counts[:1, :1, :1], np.full((1, 1, 1), np.nan))


def test_it_needs_no_torch():
    """Judging is numpy's work; torch takes seconds to load."""
    code = (
        "import sys; from insitu.trust.report import report; from insitu.trust import columns, "
        "metrics, averaging, without_truth; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

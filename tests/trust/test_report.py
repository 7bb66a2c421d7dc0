import numpy as np
import pytest
from scipy import ndimage

from insitu import InputError
from insitu.trust.report import report


@pytest.fixture(scope="module")
def movie():
    y, x = np.mgrid[:64, :64]
    clean = 0.6 * (1 + 0.7 * np.cos(0.5 * x) * np.cos(0.4 * y)) * np.ones((24, 1, 1))
    return clean, np.random.default_rng(0).poisson(clean)


def verdicts(*args, **options):
    return {f.question.split("?")[0]: f for f in report(*args, **options)}


def test_the_truth_passes_all(movie):
    clean, counts = movie
    findings = report(counts, clean, truth=clean)
    assert all(f.good for f in findings)
    assert len(findings) == 7


def test_who_has_seen_the_counts_is_found_out(movie):
    _, counts = movie
    seeing = ndimage.uniform_filter1d(counts.astype(float), 5, axis=0)
    found = verdicts(counts, seeing)
    assert "has seen the counts" in found["Was noise taken out, and only noise"].answer
    assert not found["How large is its error, without a truth"].good


def test_blur_and_units_are_found_out(movie):
    clean, counts = movie
    blurred = ndimage.gaussian_filter(clean, (0, 6, 6))
    found = verdicts(counts, blurred)
    assert "missing" in found["Was noise taken out, and only noise"].answer
    assert not found["Does it agree with the average of 24 frames"].good
    assert not found["Is what was taken out white"].good
    assert not verdicts(counts, 60 * clean)["Is it in electrons"].good


def test_invented_contrast_is_found_out(movie):
    clean, counts = movie
    bold = clean.mean() + 1.4 * (clean - clean.mean())
    answer = verdicts(counts, bold)["Is what was taken out related to the picture"].answer
    assert "exaggerated" in answer
    faint = clean.mean() + 0.6 * (clean - clean.mean())
    assert "lost" in verdicts(counts, faint)["Is what was taken out related to the picture"].answer


def test_other_shapes_give_a_sentence(movie):
    clean, counts = movie
    with pytest.raises(InputError, match="one shape"):
        report(counts, clean[1:])

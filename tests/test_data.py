"""What ships in data/ is what its record says."""

import hashlib
import json
from pathlib import Path

import numpy as np
import tifffile

DATA = Path(__file__).parents[1] / "data"


def test_clean_image_is_that_of_its_record():
    record = json.loads((DATA / "pt_ceo2_clean.json").read_text())
    path = DATA / "pt_ceo2_clean.tif"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == record["sha256"]
    image = tifffile.imread(path)
    assert image.shape == (276, 276)
    assert image.dtype == np.float32
    assert abs(image[:30].mean() - 1) < 0.01  # vacuum
    assert image.max() > 1.3  # white columns
    assert image.min() > 0


def test_clean_image_holds_nothing_beyond_the_aperture():
    """Summing it to 0.24 A per pixel and interpolating back loses almost nothing."""
    image = tifffile.imread(DATA / "pt_ceo2_clean.tif").astype(float)
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2
    frequency = np.fft.fftfreq(276, 0.12)
    beyond = np.hypot(frequency[:, None], frequency) > 1 / 0.48
    assert power[beyond].sum() < 1e-4 * power.sum()


def test_the_second_real_movie_and_its_vacuum_are_those_of_its_authors():
    """Made from the test data of detectda 0.5.6, as counts; the licence lies beside."""
    sums = {
        "pt-edge.tif": "a15558f1f8669d8acf600fa54124bda77fa3271e78e8be1e6b9492ac428a0570",
        "pt-edge-vacuum.tif": "df1fbb88007443fc609ceb280904cb283604146a9757c5f587978458f1ce9c15",
    }
    for name, known in sums.items():
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == known
    assert "Andrew M. Thomas" in (DATA / "pt-edge.LICENSE").read_text()
    vacuum = tifffile.imread(DATA / "pt-edge-vacuum.tif").astype(float)
    assert abs(vacuum.mean() - 3.069) < 0.001

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

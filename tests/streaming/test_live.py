"""A folder that grows, written by another process: frames late, doubled, half-written."""

import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from insitu import InputError
from insitu.streaming import follow

WRITER = """
import io, pathlib, sys, time, numpy, tifffile
folder, frames = pathlib.Path(sys.argv[1]), numpy.load(sys.argv[2])
def content(t):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, frames[t])
    return buffer.getvalue()
def write(t, name="frame_{:04d}.tif"):
    (folder / name.format(t)).write_bytes(content(t))
for t in range(len(frames)):
    if t == 30:  # half-written for a while
        whole = content(t)
        with (folder / f"frame_{t:04d}.tif").open("wb") as file:
            file.write(whole[: len(whole) // 2])
            file.flush()
            time.sleep(0.3)
            file.write(whole[len(whole) // 2 :])
    elif t == 40:  # out of order, in time
        write(41)
        time.sleep(0.2)
        write(40)
    elif t == 41:
        pass
    elif t == 50:  # comes far too late
        pass
    elif t == 60:  # a second file of the same number
        write(60)
        write(60, "frame_{:04d} (1).tif")
    elif t == 70:  # never whole
        (folder / f"frame_{t:04d}.tif").write_bytes(content(t)[:900])
    else:
        write(t)
    time.sleep(0.01)
while not (folder / 'now').exists():
    time.sleep(0.02)
write(50)
"""


@pytest.fixture(scope="module")
def frames():
    movie = np.random.default_rng(0).poisson(0.8, (120, 64, 64)).astype(np.uint8)
    movie[80:, 16:32, 32:48] += np.random.default_rng(1).poisson(0.6, (40, 16, 16)).astype(np.uint8)
    movie[45] = movie[44]  # the detector sends a frame twice
    return movie


@pytest.mark.slow
def test_each_fault_is_right_or_named(frames, tmp_path):
    np.save(tmp_path / "frames.npy", frames)
    folder = tmp_path / "live"
    folder.mkdir()
    writer = subprocess.Popen([sys.executable, "-c", WRITER, folder, tmp_path / "frames.npy"])
    moments = []
    for moment in follow(folder, first=0, baseline=25, patience=3.0, until=10.0):
        moments.append(moment)
        if moment.frame == 100:
            (folder / "now").touch()  # the missing one comes
    assert writer.wait() == 0
    said = {m.frame: m.trouble for m in moments if m.trouble}
    assert set(said) == {45, 50, 60, 70}
    assert "is the one before once more" in said[45]
    assert said[50].startswith("frame 50 came late; it is in the mean")
    first = next(m.trouble for m in moments if m.frame == 50)
    assert first == "frame 50 did not come; it is lost"
    assert "a second time" in said[60]
    assert said[70] == "frame 70 is not whole; it is lost"
    in_order = [m.frame for m in moments if "second" not in m.trouble and "late" not in m.trouble]
    assert in_order == list(range(120))
    counted = np.delete(frames, [45, 70], 0)
    np.testing.assert_allclose(moments[-1].mean, counted.mean(0), rtol=1e-12)
    assert moments[-1].frames == 118
    event = [m.frame for m in moments for cell in m.alarms.cell if cell.tolist() == [1, 2]]
    assert 80 <= event[0] < 90


@pytest.mark.slow
def test_a_picture_is_made_beside(frames, tmp_path):
    for t, frame in enumerate(frames[:40]):
        tifffile.imwrite(tmp_path / f"{t}.tif", frame)

    def slow_mean(counts, pixel_size):
        time.sleep(0.1)
        assert pixel_size == 0.24
        return np.broadcast_to(counts.mean(0), counts.shape)

    pictures = []
    for moment in follow(tmp_path, baseline=25, denoiser=slow_mean, pixel_size=0.24, window=8):
        time.sleep(0.02)
        if moment.picture is not None:
            pictures.append(moment.picture)
        if moment.frame == 39:
            break
    assert pictures
    for picture in pictures:
        mean = frames[picture.frame - 7 : picture.frame + 1].mean(0)
        np.testing.assert_allclose(picture.image, mean, rtol=1e-6)
        assert picture.latency > 0.1


def test_settings_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        next(follow(tmp_path / "none"))
    with pytest.raises(InputError, match="pixel_size"):
        next(follow(tmp_path, denoiser=lambda counts, _: counts))

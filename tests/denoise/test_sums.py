"""Motion from pictures, and sums of frames along it."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from insitu.denoise.motion import GRID, displacements, motion
from insitu.denoise.sums import ALONG, PLAIN, mean_along, mean_frames


@pytest.fixture(scope="module")
def texture():
    """A picture with detail everywhere, and how to look at it after a turn and a shift."""
    image = gaussian_filter(np.random.default_rng(1).normal(size=(260, 260)), 3.0)
    image = (image / image.std()).astype(np.float32)

    def seen(degrees, down=0.0, right=0.0, size=200):
        y, x = np.mgrid[:size, :size] - (size - 1) / 2
        cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        at = (cos * (y - down) - sin * (x - right), sin * (y - down) + cos * (x - right))
        return map_coordinates(image, [part + 129.5 for part in at], order=3).astype(np.float32)

    return seen


def test_a_shift_and_a_turn_are_found(texture):
    frames = torch.from_numpy(np.stack([texture(0), texture(0), texture(1.5, 2.0, -1.0)]))
    still, moved = displacements(frames[:2], frames[1:])
    assert still.abs().max() < 1e-3
    place = (torch.arange(13) + 0.5) * GRID - 0.5 - 99.5
    angle = np.deg2rad(1.5)
    inside = slice(3, 9)
    right, down = moved[:, inside, inside]
    assert torch.allclose(right, (-1.0 - angle * place[inside][:, None]).expand(6, 6), atol=0.1)
    assert torch.allclose(down, (2.0 + angle * place[inside]).expand(6, 6), atol=0.1)


def test_sums_hold_the_frames_that_they_say():
    movie = torch.arange(80.0)[:, None, None].expand(80, 16, 16)
    means = mean_frames(movie, [0, 40, 79])
    assert means[1, :, 0, 0].tolist() == [40.0] * len(PLAIN)
    assert means[0, 1, 0, 0] == 0.5
    assert means[2, -1, 0, 0] == np.mean(range(47, 80))


def test_along_the_motion_a_moving_picture_stands_still(texture):
    frames = torch.from_numpy(np.stack([texture(0.8 * t, 0.5 * t) for t in range(-8, 9)]))
    forward, backward = motion(frames)
    along = mean_along(frames, forward, backward, [8])
    plain = mean_frames(frames, [8], ALONG)
    inner = np.s_[..., 50:150, 50:150]
    for k in range(ALONG.index(5), ALONG.index(17) + 1):
        wrong = [(part[0, k] - frames[8])[inner].std() for part in (along, plain)]
        assert wrong[0] < 0.25 * wrong[1]


def test_the_ends_of_a_movie_take_the_frames_that_there_are():
    movie = torch.rand(5, 32, 40, generator=torch.Generator().manual_seed(0))
    none = torch.zeros(4, 2, 2, 3)
    assert torch.allclose(
        mean_along(movie, none, none, range(5)), mean_frames(movie, range(5), ALONG), atol=1e-5
    )

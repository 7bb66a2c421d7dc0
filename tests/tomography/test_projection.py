"""Projectors: the adjoint, the analytic disc, each other, and ASTRA where it is installed."""

from functools import partial

import numpy as np
import pytest
import torch

from insitu.tomography.algebraic import low_rank, moving_window, sirt, total_variation
from insitu.tomography.projection import Projector, disc, project
from insitu.tomography.series import tilt_series

ANGLES = [-90.0, -70.0, -33.0, 0.0, 17.0, 45.0, 60.0, 90.0]


def drawn_disc(size=96, fine=8, radius=30.3, centre=(5.2, -7.7)):
    """A disc (y, x), each pixel the mean of fine x fine points; the centre is (x, y)."""
    points = (np.arange(size * fine) + 0.5) / fine - size / 2
    inside = np.hypot(points - centre[0], points[:, None] - centre[1]) < radius
    return inside.reshape(size, fine, size, fine).mean((1, 3)).astype(np.float32)


def disc_projection(angle, size=96, fine=8, radius=30.3, centre=(5.2, -7.7)):
    """Chords of that disc, by Pythagoras, each detector pixel the mean of `fine` points."""
    a = np.deg2rad(angle)
    s = (np.arange(size * fine) + 0.5) / fine - size / 2
    s = s - centre[0] * np.cos(a) - centre[1] * np.sin(a)
    return 2 * np.sqrt(np.maximum(radius**2 - s**2, 0)).reshape(size, fine).mean(1)


def off(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("size", [16, 37, 64])
def test_the_gradient_of_a_projection_is_its_adjoint(size):
    generator = torch.Generator().manual_seed(size)
    angles, shifts = torch.tensor([0.0, 33.0, -71.0]), torch.tensor([0.0, 1.3, -0.4])
    x = torch.randn(3, 4, size, size, generator=generator, requires_grad=True)
    y = torch.randn(3, 4, size, generator=generator)
    forward = project(x, angles, shifts=shifts)
    (backward,) = torch.autograd.grad(forward, x, y)
    difference = (forward * y).sum() - (x * backward).sum()
    assert abs(difference.item()) < 1e-5 * (forward.norm() * y.norm()).item()


@pytest.mark.parametrize("size", [16, 37])
def test_the_transposed_operator_is_the_adjoint(size):
    rng = np.random.default_rng(size)
    A = Projector(ANGLES, size, shifts=np.linspace(-2, 2, len(ANGLES)))
    x, y = rng.normal(size=(4, size, size)), rng.normal(size=(len(ANGLES), 4, size))
    assert np.vdot(A(x), y) == pytest.approx(np.vdot(x, A.T(y)), rel=1e-9)
    np.testing.assert_allclose(A(2 * x + A.T(y)), 2 * A(x) + A(A.T(y)), atol=1e-9)  # linear
    with pytest.raises(ValueError, match="dimension mismatch"):
        A(x[:, 1:])
    with pytest.raises(ValueError, match="dimension mismatch"):
        A.T(y[1:])


@pytest.mark.parametrize("angle", ANGLES)
def test_both_projectors_give_the_chords_of_a_disc_and_each_other(angle):
    image = drawn_disc()
    ours = project(torch.tensor(image)[None, None], torch.tensor([angle]))[0, 0].numpy()
    sparse = Projector([angle], 96)(image[None])[0, 0]
    expected = disc_projection(angle)
    assert off(ours, expected) < 0.015
    assert off(sparse, expected) < 0.015
    assert off(ours, sparse) < 0.015


def test_a_shift_moves_the_projection():
    image = drawn_disc()
    shifted = project(
        torch.tensor(image)[None, None], torch.tensor([20.0]), shifts=torch.tensor([3.0])
    )[0, 0].numpy()
    plain = project(torch.tensor(image)[None, None], torch.tensor([20.0]))[0, 0].numpy()
    assert off(shifted[3:], plain[:-3]) < 1e-4
    assert off(Projector([20.0], 96, shifts=[3.0])(image[None])[0, 0], shifted) < 0.015


def test_every_sample_has_its_own_angle():
    image = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    together = project(image, torch.tensor([10.0, -50.0]))
    apart = torch.cat(
        [project(image[k : k + 1], torch.tensor([a])) for k, a in ((0, 10.0), (1, -50.0))]
    )
    torch.testing.assert_close(together, apart)


def test_sirt_and_total_variation_find_a_disc():
    angles = np.linspace(-88, 88, 89)
    image = drawn_disc()
    p = np.stack([disc_projection(a) for a in angles]).astype(np.float32)[:, None]
    A, middle = Projector(angles, 96), disc(96).numpy()
    for u in (sirt(A, p, 100), total_variation(A, p, 1.0)):
        assert off(u[0] * middle, image) < 0.16


def test_a_window_sees_the_tilts_around_a_moment_and_no_others():
    angles = np.linspace(-70, 70, 12)
    p = np.random.default_rng(0).random((12, 2, 24)).astype(np.float32)
    method = partial(sirt, iterations=5)
    data = tilt_series(p, angles)
    whole = moving_window(data, method, reach=11, tilts=[0, 7])
    every = sirt(Projector(angles, 24), p, 5)
    for volume in whole:
        np.testing.assert_allclose(volume, every, atol=1e-5)
    changed = p.copy()
    changed[[2, 9]] += 1.0
    a, b = (moving_window(d, method, reach=2) for d in (data, tilt_series(changed, angles)))
    differs = [bool(abs(x - y).max() > 1e-3) for x, y in zip(a, b, strict=True)]
    assert differs == [min(abs(t - 2), abs(t - 9)) <= 2 for t in range(12)]


def test_low_rank_finds_a_picture_whose_brightness_goes_as_a_cosine():
    size, times = 32, np.linspace(0, 1, 40)
    angles = np.linspace(-88, 88, 40)[np.random.default_rng(0).permutation(40)]
    image = drawn_disc(size, radius=9.0, centre=(1.0, -2.0))
    bright = 1 + 0.5 * np.cos(np.pi * times)
    A = Projector(angles, size)
    data = tilt_series(A(image[None]) * bright[:, None, None], angles, times)
    truth = bright[:, None, None] * image
    still = sirt(A, data.projections)
    for rounds in (0, 1):
        found = low_rank(data, rank=2, iterations=20, rounds=rounds)[:, 0]
        assert off(found, truth) < 0.6 * off(np.repeat(still, 40, 0), truth)


def test_sirt_agrees_with_astra():
    astra = pytest.importorskip("astra", exc_type=ImportError)  # it may lack its CUDA
    size, angles = 64, np.linspace(-70, 70, 60)
    image = drawn_disc(64, radius=20.0, centre=(3.0, -4.0))
    geometry = astra.create_vol_geom(size, size)
    # ASTRA's y axis points up, and its angles turn the other way
    detector = astra.create_proj_geom("parallel", 1.0, size, np.deg2rad(-angles))
    projector = astra.create_projector("linear", detector, geometry)
    A = Projector(angles, size)
    p = A(image[None])[:, 0]
    data, volume = astra.data2d.create("-sino", detector, p), astra.data2d.create("-vol", geometry)
    settings = astra.astra_dict("SIRT") | {
        "ProjectorId": projector,
        "ProjectionDataId": data,
        "ReconstructionDataId": volume,
        "option": {"MinConstraint": 0},
    }
    astra.algorithm.run(astra.algorithm.create(settings), 50)
    theirs = astra.data2d.get(volume)
    ours = sirt(A, p[:, None], 50)[0]
    assert off(ours, theirs) < 0.01

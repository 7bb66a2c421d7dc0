import numpy as np
import pytest
import torch

from insitu import InputError
from insitu.counting.categorical import Categorical
from insitu.counting.poisson import Poisson
from insitu.measure import columns, joint
from insitu.measure.columns import fit_columns
from insitu.measure.scoring import Flag, Information

PIXEL, WIDTH = 0.24, 0.45


def scene(places, electrons, background=1.0, shape=(40, 44)):
    y, x = np.mgrid[: shape[0], : shape[1]] * PIXEL
    image = np.full(shape, float(background))
    for (a, b), n in zip(places, np.broadcast_to(electrons, len(places)), strict=True):
        blob = np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * WIDTH**2))
        image += n * PIXEL**2 / (2 * np.pi * WIDTH**2) * blob
    return image


def drawn(clean, detector, frames, seed=0):
    many = torch.as_tensor(clean, dtype=torch.float32).expand(frames, -1, -1)
    return detector.sample(many, torch.Generator().manual_seed(seed))


def jacobian(model, at, step=1e-5):
    """Slopes (pixels, parameters) of a model, by differences."""
    sides = torch.eye(len(at), dtype=torch.float64) * step * at.abs().clamp(min=1)
    columns = [(model(at + d) - model(at - d)) / (2 * d.sum()) for d in sides]
    return torch.stack(columns, 1)


def bound(place, electrons, background, variance):
    """Least standard error of y of one column of known width: by symmetry nothing couples to it."""
    y = np.arange(40)[:, None] * PIXEL
    rise = scene([place], electrons, 0.0)
    slope = rise * (y - place[0]) / WIDTH**2
    return 1 / np.sqrt((slope**2 / variance(background + rise)).sum())


ONE = [(4.83, 5.12)]
TWO = [(4.7, 4.1), (4.9, 6.09)]


@pytest.mark.parametrize("electrons", [300, 1000])
def test_single_columns_reach_the_bound(electrons):
    counts = drawn(scene(ONE, electrons), Poisson(), 2500)
    fit = fit_columns(counts, np.array(ONE) + 0.08, PIXEL, free=())
    off = fit.position - ONE
    assert fit.good.all()
    spread = np.sqrt((off**2).mean((0, 1)))
    assert spread.mean() == pytest.approx(bound(ONE[0], electrons, 1.0, lambda m: m), rel=0.05)
    assert np.abs(off.mean((0, 1))).max() < 0.01
    assert (off / fit.position_error).std() == pytest.approx(1, abs=0.05)
    assert ((fit.intensity - electrons) / fit.intensity_error).std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("free", [(), ("width", "slope")])
def test_neighbours_at_2_angstrom_have_the_right_errors(free):
    counts = drawn(scene(TWO, 600), Poisson(), 1200)
    fit = fit_columns(counts, np.add(TWO, [0.1, -0.05]), PIXEL, free=free)
    z = (fit.position - TWO) / fit.position_error
    assert fit.good.all()
    assert z.std() == pytest.approx(1, abs=0.05)
    assert np.abs(fit.position.mean(0) - TWO).max() < 0.01
    # what pulls two columns together would show in one alone, too
    assert (z[:, 0, 1] - z[:, 1, 1]).std() == pytest.approx(np.sqrt(2), abs=0.2)


def test_under_a_detector_that_saturates():
    detector, electrons = Categorical.sub_frames(16), 250
    counts = drawn(scene(TWO, electrons), detector, 1000)
    fit = fit_columns(counts, TWO, PIXEL, detector, free=())
    assert fit.good.all()
    assert ((fit.position - TWO) / fit.position_error).std() == pytest.approx(1, abs=0.05)
    assert ((fit.intensity - electrons) / fit.intensity_error).std() == pytest.approx(1, abs=0.05)
    one = fit_columns(drawn(scene(ONE, electrons), detector, 2000), ONE, PIXEL, detector, free=())
    least = bound(ONE[0], electrons, 1.0, lambda m: m * (1 - m / 16))
    assert (one.position - ONE).std() == pytest.approx(least, rel=0.05)


def test_errors_are_those_of_the_joint_information():
    clean = torch.as_tensor(scene(TWO, 500))[None]
    kinds = list(range(joint.PARAMETERS))
    cells = joint.make_cells(
        np.array(TWO), (40, 44), PIXEL, radius=1.5, reach=1.6, free=kinds, like=clean
    )
    row = [500.0, np.log(WIDTH), 1.0, 0.0, 0.0]
    theta = torch.tensor([[[*place, *row] for place in TWO]], dtype=torch.float64)
    mean, slopes = joint.design(theta, cells)
    weight = cells.inside / mean.clamp(min=1e-3)
    _, blocks = joint.normal_equations(slopes, weight, weight, cells)
    free, none = torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2, dtype=torch.float64)
    found = joint.solve(blocks, torch.zeros(1, 2, 7).double(), free, none, cells, errors=True)

    def model(flat):
        return joint.design(flat.reshape(1, 2, 7), cells)[0].reshape(-1)

    j = jacobian(model, theta.reshape(-1))
    dense = torch.linalg.inv((j.T * weight.reshape(-1)) @ j)
    torch.testing.assert_close(found.variance.reshape(-1), dense.diag(), rtol=1e-6, atol=0)
    assert dense[1, 8] != 0  # x of the one and x of the other


def test_many_strips_give_what_one_matrix_gives():
    places = np.array([(3 + 2.4 * i, 3 + 2.4 * k) for i in range(3) for k in range(9)])
    clean = torch.as_tensor(scene(places, 300, shape=(45, 105)))[None]
    cells = joint.make_cells(
        places, (45, 105), PIXEL, radius=1.5, reach=1.6, free=[0, 1, 2, 4], like=clean
    )
    assert len(cells.strips) > 3
    rng = np.random.default_rng(0)
    theta = torch.tensor(np.c_[places, 300 + 20 * rng.standard_normal(27), np.full(27, -0.8)])
    theta = torch.cat([theta, torch.tensor([[1.0, 0, 0]]).expand(27, -1)], 1)[None].double()
    mean, slopes = joint.design(theta, cells)
    weight = cells.inside / mean.clamp(min=1e-3)
    data = clean.flatten(1)[:, cells.pixels]
    gradient, blocks = joint.normal_equations(slopes, (data - mean) * weight, weight, cells)
    free, none = torch.ones(1, 27, dtype=torch.bool), torch.zeros(1, 27, dtype=torch.float64)
    found = joint.solve(blocks, gradient, free, none, cells, errors=True)

    def model(flat):
        full = theta.clone()
        full[0][:, [0, 1, 2, 4]] = flat.reshape(27, 4)
        return joint.design(full, cells)[0].reshape(-1)

    j = jacobian(model, theta[0][:, [0, 1, 2, 4]].reshape(-1))
    dense = torch.linalg.inv((j.T * weight.reshape(-1)) @ j)
    step = dense @ j.T @ ((data - mean) * weight).reshape(-1)
    torch.testing.assert_close(found.step.reshape(-1), step, rtol=2e-3, atol=1e-5)
    torch.testing.assert_close(found.variance.reshape(-1), dense.diag(), rtol=2e-3, atol=0)


def test_clean_images_give_exact_numbers():
    """Dark and bright, on an inclined background, by least squares and as expected counts."""
    y, x = np.mgrid[:40, :44] * PIXEL
    ramp = 0.2 * y - 0.1 * x
    for sign, detector in ((1, None), (-1, None), (1, Poisson())):
        clean = 30 + ramp + scene(TWO, sign * 150, 0.0)
        fit = fit_columns(
            clean,
            np.array(TWO) + 0.1,
            PIXEL,
            detector,
            free=("width", "slope"),
            dark=sign < 0,
            width=0.5,
            steps=80,
        )
        np.testing.assert_allclose(fit.position[0], TWO, atol=2e-3)
        np.testing.assert_allclose(fit.intensity[0], sign * 150, rtol=0.01)
        np.testing.assert_allclose(fit.width[0], WIDTH, rtol=0.01)


def test_the_information_is_the_slope_of_the_detectors_likelihood():
    detector = Categorical([0.0, 0.0, -0.3, -0.9], max_mean=4)
    m = np.array([0.05, 0.3, 1.1, 2.7])
    p, low, high = (detector.table(m + d, 20) for d in (0, -1e-4, 1e-4))
    exact = (((high - low) / 2e-4) ** 2 / np.maximum(p, 1e-300)).sum(1)
    told = Information(detector, 3.0)
    mean = torch.tensor(m)
    np.testing.assert_allclose(told.of(mean), exact, rtol=2e-3)
    two = torch.full((4,), 2.0)
    low, high = (told.log_likelihood(two, mean * side) for side in (0.97, 1.03))
    rise = (high - low).numpy() / (0.06 * m)
    np.testing.assert_allclose(rise, (2 - m) * exact, rtol=0.01, atol=0.01)


def test_what_cannot_be_measured_is_flagged():
    counts = drawn(scene([*TWO, (0.3, 5.0)], 600), Poisson(), 4).numpy()
    counts[1] = 0  # a frame that was lost
    counts[2] = np.nan
    start = [*TWO, (0.3, 5.0), (-3.0, 5.0), (8.0, 2.0)]  # at the border, outside, in vacuum
    fit = fit_columns(counts, start, PIXEL, free=())
    assert fit.good[0, :4].tolist() == [True, True, False, False]
    assert fit.flag[0, 2] & Flag.BORDER
    assert fit.flag[0, 3] == Flag.LOST
    assert abs(fit.intensity[0, 4]) < 4 * fit.intensity_error[0, 4]
    assert (fit.flag[1:3] & Flag.LOST).all()
    assert np.isnan(fit.position[1:3]).all()
    assert np.isfinite(fit.position[fit.flag & Flag.LOST == 0]).all()
    assert np.isfinite(fit.intensity_error[fit.flag & Flag.LOST == 0]).all()


def test_empty_frames_have_flags_and_no_numbers():
    fit = fit_columns(np.zeros((3, 40, 44)), TWO, PIXEL)
    assert (fit.flag == Flag.LOST).all()
    vacuum = np.random.default_rng(0).poisson(0.5, (20, 40, 44))
    fit = fit_columns(vacuum, TWO, PIXEL, free=())
    assert fit.good.mean() < 0.5
    assert (fit.intensity[fit.good] < 5 * fit.intensity_error[fit.good]).all()


def test_saturation_is_flagged():
    four = Categorical.sub_frames(4)
    clean = np.minimum(scene(TWO, 120, 0.6), 3.75)
    fit = fit_columns(drawn(clean, four, 4), TWO, PIXEL, four, free=())
    assert (fit.flag & Flag.SATURATED).any()


def test_frames_may_have_their_own_starts():
    moved = np.array([TWO, np.add(TWO, [1.2, 0.6])])
    clean = np.stack([scene(places, 900) for places in moved])
    fit = fit_columns(clean, moved + 0.05, PIXEL, None)
    np.testing.assert_allclose(fit.position, moved, atol=1e-3)


@pytest.mark.parametrize(
    ("frames", "start", "words"),
    [
        (np.zeros(5), TWO, "expected an image or a movie"),
        (-scene(TWO, 90), TWO, "counts are never negative"),
        (np.where(np.eye(40, 44), np.nan, 1), TWO, "NaN"),
        (scene(TWO, 90), np.zeros((0, 2)), "expected .columns, 2. places"),
        (scene(TWO, 90), [(4, 4), (4.1, 4)], "nearer than 0.7 A"),
        (scene(TWO, 90), np.zeros((3, 1, 2)), "places for 3 frames"),
    ],
)
def test_sentences(frames, start, words):
    with pytest.raises(InputError, match=words):
        fit_columns(frames, start, PIXEL)


@pytest.mark.parametrize("free", [(), ("width",)])
def test_frames_together_give_what_each_gives_alone(free):
    """Together they begin at the fit of their mean; the likeliest columns are the same."""
    counts = drawn(scene(TWO, 400), Poisson(), 12)
    counts[3] = drawn(scene(np.add(TWO, [0.5, 0.3]), 400), Poisson(), 1, seed=9)[0]
    start = np.add(TWO, [0.05, 0.02])
    together = fit_columns(counts, start, PIXEL, free=free)
    alone = [fit_columns(frame, start, PIXEL, free=free) for frame in counts]
    assert together.good.all()
    off = together.position - np.concatenate([fit.position for fit in alone])
    assert np.abs(off / together.position_error).max() < 0.05
    errors = np.concatenate([fit.position_error for fit in alone])
    np.testing.assert_allclose(together.position_error, errors, rtol=0.01)


def test_threads_change_nothing(monkeypatch):
    monkeypatch.setattr(columns, "BATCH", 40_000)  # some frames at once
    counts = drawn(scene(TWO, 400), Poisson(), 20)
    threads = torch.get_num_threads()
    found = []
    for number in (1, 3):
        torch.set_num_threads(number)
        found.append(fit_columns(counts, TWO, PIXEL))
        assert torch.get_num_threads() == number
    torch.set_num_threads(threads)
    np.testing.assert_allclose(found[0].position, found[1].position, atol=1e-6)

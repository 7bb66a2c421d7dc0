"""Control charts: run lengths as published, lost frames, streams, correlated noise."""

import numpy as np
import pytest
from scipy import ndimage

from insitu import InputError
from insitu.measure import charts, nulls, run_lengths
from insitu.trust.likelihood import discoveries

EWMA = {"weight": 0.2, "limit": 2.962}
CUSUM = {"reference": 0.5, "limit": 5.0}


def simulated(chart, shift, seed, frames=None):
    """Frames until the first alarm, on average, of a million frames of series."""
    rng = np.random.default_rng(seed)
    series = shift + rng.standard_normal((2000, frames or (60 if shift else 500)))
    alarm = chart(series, restart=True).alarm
    if shift:  # every series alarms
        assert alarm.any(1).all()
        return (alarm.argmax(1) + 1).mean()
    return alarm.size / alarm.sum()


@pytest.mark.parametrize(
    ("length", "published"),
    [
        (run_lengths.ewma_run_length(0, **EWMA), 500),
        (run_lengths.ewma_run_length(1, **EWMA), 10.5),
        (run_lengths.cusum_run_length(0, **CUSUM), 465),
        (run_lengths.cusum_run_length(1, **CUSUM), 10.4),
    ],
)
def test_run_lengths_are_the_published_ones(length, published):
    assert length == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("shift", [0, 1])
def test_simulated_run_lengths_agree(shift):
    for chart, settings, length in (
        (charts.ewma, EWMA, run_lengths.ewma_run_length),
        (charts.cusum, CUSUM, run_lengths.cusum_run_length),
    ):
        got = simulated(lambda x, c=chart, s=settings, **k: c(x, **s, **k), shift, 1)
        # about 2,000 alarms either way; false ones come at random: 2.2 %, within the 3 s.e.
        assert got == pytest.approx(length(shift, **settings), rel=0.03 if shift else 0.07)


@pytest.mark.parametrize("wanted", [100, 900_000])
def test_limits_give_the_run_length_that_was_asked_for(wanted):
    limit = run_lengths.ewma_limit(wanted, weight=0.1)
    assert run_lengths.ewma_run_length(0, weight=0.1, limit=limit) == pytest.approx(
        wanted, rel=1e-3
    )
    limit = run_lengths.cusum_limit(wanted, reference=0.25)
    assert run_lengths.cusum_run_length(0, reference=0.25, limit=limit) == pytest.approx(
        wanted, rel=1e-3
    )


def test_limits_hold_for_few_electrons():
    settings = {"reference": 0.47, "limit": run_lengths.cusum_limit(2000, reference=0.47)}
    counts = np.random.default_rng(2).poisson(9.0, (2000, 1500))
    series = charts.standardised(counts, mean=9, deviation=3)
    normal = charts.cusum(series, **settings, restart=True).alarm
    assert normal.size / normal.sum() < 1900  # the law of counts leans to more electrons
    law = run_lengths.skewed(1 / 3)
    settings["limit"] = run_lengths.cusum_limit(2000, reference=0.47, law=law)
    kept = charts.cusum(series, **settings, restart=True).alarm
    assert kept.size / kept.sum() == pytest.approx(2000, rel=0.1)


def test_power_is_what_charts_do():
    series = 1 + np.random.default_rng(3).standard_normal((4000, 12))
    chart = charts.cusum(series)
    assert (chart.upper > 5).any(1).mean() == pytest.approx(
        run_lengths.cusum_power(1, 12), abs=0.03
    )


@pytest.mark.parametrize("chart", [charts.ewma, charts.cusum])
@pytest.mark.parametrize("restart", [False, True])
def test_a_stream_gives_the_same_bits(chart, restart):
    rng = np.random.default_rng(4)
    series = rng.standard_normal((7, 60)) + (np.arange(60) > 30)
    series[rng.random(series.shape) < 0.1] = np.nan
    whole, state, shown = chart(series, restart=restart), None, []
    for frame in series.T:
        step = chart(frame[:, None], state=state, restart=restart)
        state = step.state
        shown.append(step)
    for field, expected in whole._asdict().items():
        if field != "state":
            got = np.concatenate([getattr(s, field) for s in shown], 1)
            np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(state, whole.state)


def test_a_lost_frame_tells_nothing():
    series = np.random.default_rng(6).standard_normal((4, 30))
    lost = np.insert(series, 10, np.nan, axis=1)
    for chart, names in ((charts.ewma, ("level",)), (charts.cusum, ("upper", "lower"))):
        whole, gap = chart(series), chart(lost)
        for name in names:
            a, b = getattr(whole, name), getattr(gap, name)
            np.testing.assert_array_equal(np.delete(b, 10, 1), a)
            np.testing.assert_array_equal(b[:, 10], b[:, 9])
    assert (charts.ewma(lost).slope[:, 10] == 0).all()


def test_the_slope_has_unit_variance_and_shows_the_change_first():
    chart = charts.ewma(np.random.default_rng(7).standard_normal((2000, 100)))
    assert chart.slope[:, 50:].std() == pytest.approx(1, abs=0.01)
    assert chart.level[:, 50:].std() == pytest.approx(1, abs=0.01)
    step = charts.ewma(np.repeat([[0.0, 1.0]], 20, axis=1))
    assert step.slope[0].argmax() == 20
    assert step.level[0].argmax() == 39


def test_the_sum_tells_when_the_change_began():
    series = np.zeros((1, 40))
    series[0, 25:] = -2
    chart = charts.cusum(series)
    alarm = chart.alarm[0].argmax()
    assert chart.lower[0, alarm] > 5
    assert alarm - chart.age[0, alarm] + 1 == 25


@pytest.mark.parametrize("chart", [charts.ewma, charts.cusum])
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (3, 1), (0, 0)])
def test_empty_and_short_series(chart, shape):
    found = chart(np.zeros(shape))
    assert found.alarm.shape == shape
    assert not found.alarm.any()


@pytest.mark.parametrize("chart", [charts.ewma, charts.cusum])
def test_a_column_that_is_never_seen_never_alarms(chart):
    assert not chart(charts.standardised(np.full((2, 9), np.nan))).alarm.any()


def test_wrong_input_is_told_in_one_sentence():
    for call in (
        lambda: charts.ewma(np.zeros(5)),
        lambda: charts.cusum([[0.0, np.inf]]),
        lambda: charts.ewma(np.zeros((2, 5)), weight=0),
        lambda: charts.cusum(np.zeros((2, 5)), limit=[1.0, 2.0, 3.0]),
        lambda: charts.cusum(np.zeros((2, 5)), reference=-1),
        lambda: charts.ewma(np.zeros((2, 5)), state=np.zeros((1, 3))),
        lambda: charts.standardised(np.ones((2, 5))),
        lambda: nulls.autocovariance(np.full((3, 50), np.nan), 3),
        lambda: nulls.autocovariance(np.zeros((3, 4)), 3),
        lambda: nulls.limit_from_null(np.zeros((2, 300)), 500),
        lambda: run_lengths.cusum_limit(1e40),
    ):
        with pytest.raises(InputError, match=r"^\w+: [^\n]*$"):
            call()


@pytest.mark.parametrize("name", ["ewma", "cusum"])
def test_limits_from_a_null_hold_behind_a_smoothing_denoiser(name):
    def chart(x, limit=1e9):
        if name == "ewma":
            found = charts.ewma(x, limit=limit)
            return np.abs(found.level)
        return charts.cusum(x, limit=limit).statistic

    rng = np.random.default_rng(9)
    noise = ndimage.gaussian_filter1d(rng.standard_normal((1200, 1200)), 1.5, axis=1)[:, 20:-20]
    noise /= noise.std()
    covariance = nulls.autocovariance(noise[:200], 20)
    null = nulls.gaussian_null(covariance, 800, 1250, rng)
    limit = nulls.limit_from_null(chart(null), 1000)
    statistic = chart(noise[200:])
    first = np.where((statistic > limit).any(1), (statistic > limit).argmax(1) + 1, noise.shape[1])
    rate = (statistic > limit).any(1).sum() / first.sum()
    assert 1 / rate == pytest.approx(1000, rel=0.15)


def test_false_discoveries_are_kept_behind_a_smoothing_denoiser():
    rng = np.random.default_rng(10)
    shares, powers, naive = [], [], []
    null = None
    for _ in range(25):
        series = rng.standard_normal((200, 200))
        series[:20, 100:] += 2.0
        series = ndimage.gaussian_filter1d(series, 1.5, axis=1)
        covariance = nulls.autocovariance(series, 12)
        series = charts.standardised(series, mean=0, deviation=np.sqrt(covariance[0]))
        if null is None:
            drawn = nulls.gaussian_null(covariance / covariance[0], 12_000, 200, rng)
            null = charts.cusum(drawn).statistic.max(1)
            white = charts.cusum(rng.standard_normal((12_000, 200))).statistic.max(1)
        peaks = charts.cusum(series).statistic.max(1)
        for found, kept in ((null, shares), (white, naive)):
            claimed = discoveries(nulls.p_values(peaks, found), 0.1)
            kept.append(claimed[20:].sum() / max(1, claimed.sum()))
        powers.append(discoveries(nulls.p_values(peaks, null), 0.1)[:20].mean())
    assert np.mean(shares) < 0.1 + 2 * np.std(shares) / 5
    assert np.mean(powers) > 0.9
    assert np.mean(naive) > 0.5  # as if the frames were independent

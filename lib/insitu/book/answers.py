"""What the answer to each exercise should be, and what one finds who makes a mistake.

A function is named after its exercise, without `exercise-`, and its arguments are names of the
page. `insitu.book.exercises` calls it when a reader's number is to be checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from insitu.book.exercises import Expected, expect

Array = Any  # of NumPy or torch, as the page has it


def column(specimen: Any, clean: Array, pixel_size: float) -> Expected:
    """Chapter 1: frames until a column's excess is three times the noise."""
    x, y = _surface(specimen)
    rows, columns = np.indices(clean.shape) * pixel_size
    excess = np.asarray(clean.cpu()) - 1
    discs = [excess[np.hypot(rows - b, columns - a) < 0.8].sum() for a, b in zip(x, y, strict=True)]
    most = max(map(abs, discs)) * pixel_size**2 * 8  # electrons
    noise, noise_of_pixel = (np.pi * 0.8**2 * 8) ** 0.5, (8 * pixel_size**2) ** 0.5
    needed = (3 * noise / most) ** 2
    return expect(
        needed,
        (needed**0.5, "The ratio grows with the root of the number of frames only: square."),
        (needed / 9, "Is that where excess and noise are alike? Three times is asked."),
        ((3 * noise_of_pixel / most) ** 2, "That is the noise of one pixel, not of the disc."),
        within=0.1 * needed,
    )


def black(specimen: Any, series: Array, through_focus: Array, pixel_size: float) -> Expected:
    """Chapter 1: the defocus [A] at which surface columns are darkest on average."""
    height, width = through_focus.shape[1:]
    x, y = (np.round(axis / pixel_size).astype(int) for axis in _surface(specimen))
    mean = through_focus[:, y % height, x % width].mean(1)
    lowest = through_focus.flatten(1).min(1).values
    return expect(
        series[int(mean.argmin())],
        (series[int(mean.argmax())], "There the columns are brightest."),
        (series[int(lowest.argmin())], "That is one dark pixel; the mean over columns is asked."),
        within=float(series[1] - series[0]) / 2,
    )


def _surface(specimen: Any) -> tuple[Array, Array]:
    from insitu.simulate import specimens

    found = specimens.columns(specimen)
    there = found["surface"] if found["surface"].any() else slice(None)
    return found["x"][there], found["y"][there]


def dose() -> Expected:
    """Chapter 2: the dose [e-/A^2] that gives an SNR of 3 in pixels of 0.24 A."""
    snr, side = 3, 0.24
    needed = snr**2 / side**2
    return expect(
        needed,
        (snr / side**2, "The SNR is the root of the number of electrons: square it."),
        (snr**2, "That is the number of electrons in a pixel; a dose is one by area."),
        (snr**2 / side, "You divided by the side of a pixel, and not by its area."),
        (snr**2 * side**2, "You multiplied by the area; a smaller pixel needs a higher dose."),
        (75 * needed, "That is the dose of a second; the dose of one frame is asked."),
    )


def binning() -> Expected:
    """Chapter 2: the Fano factor of sums of 2 x 2 pixels of the four-part detector."""
    from insitu.counting.categorical import Categorical
    from insitu.counting.detector import moments

    mean, variance, _ = moments(Categorical.sub_frames(4), 0.8)
    fano = float(variance[0] / mean[0])
    return expect(
        fano,
        (4 * fano, "The variance became four times as large. And the mean?"),
        (fano / 4, "You divided the variance of a single pixel by the mean of the sum."),
        (1.0, "That is Poisson's; in four parts a pixel counts four electrons at the most."),
    )


def rate(movie: Any, rate: float) -> Expected:
    """Chapter 3: the frame rate at which the farthest column moves by 0.25 A a frame."""
    fastest = float(np.abs(np.diff(movie.angles)).max()) or 1.0  # degrees a frame
    rows = movie.truth(0)
    lowest = rows[rows["y"] > rows["y"].max() - 0.1]
    arms = np.hypot(rows["x"] - lowest["x"].min(), rows["y"] - lowest["y"][0])
    needed = rate * np.deg2rad(fastest) * float(arms.max()) / 0.25
    typical = needed * float(arms.mean() / arms.max())
    return expect(
        needed,
        (needed / rate, "That is how many times as fast; the rate is asked."),
        (np.rad2deg(needed), "An arc is the angle in radians times the arm; yours is in degrees."),
        (typical, "That is the mean column; the one that is farthest from the foot is asked."),
    )


def average(clean: Array, middle: int, part: Any, plan: Any) -> Expected:
    """Chapter 3: over how many frames to average, of those named."""
    blur, noise = {}, {}
    for count in (1, 3, 5, 9, 17, 33, 65):
        stack = clean[max(0, middle - count // 2) : middle + count // 2 + 1][:, *part]
        blur[count] = np.sqrt(((stack.mean(0) - clean[middle][part]) ** 2).mean())
        noise[count] = np.sqrt(clean[middle][part].mean() / plan.vacuum / len(stack))
    return expect(
        min(blur, key=lambda count: np.hypot(blur[count], noise[count])),
        (1, "One frame has no blur, and all of the noise."),
        (65, "So many have hardly any noise left, and all of the blur."),
        within=0.0,
    )


def vacuum(noisy_views: Any, ours: Any, pixel: float, vacuum: float) -> Expected:
    """Chapter 4: the PSNR [dB] within 1 A of a column."""
    from insitu.trust.metrics import psnr

    view, counts = noisy_views["white"][0]
    answer, truth = ours(counts, pixel), view.clean * vacuum
    rows, columns = np.indices(truth.shape) * pixel
    near = np.min([np.hypot(rows - y, columns - x) for y, x in view.positions], axis=0) < 1.0
    noisy = psnr(answer[near], np.asarray(counts)[near])
    return expect(
        psnr(answer[near], truth[near]),
        (psnr(answer, truth), "That is the whole image."),
        (psnr(answer[~near], truth[~near]), "That is the rest of the image, without columns."),
        (noisy, "You compared with the counts, and not with the truth."),
        within=0.15,
    )


def hole(counts: Array, still: slice) -> Expected:
    """Chapter 5: by how much the estimate is too low, with the pixel's own count in the mean."""
    noise, share = float(counts[still].mean()), 1 / 5
    return expect(
        2 * share * noise,
        (share * noise, "The square of a difference has the pixel's own count in it twice."),
        (2 * share, "That is a share; times the variance of a count it is the answer."),
        (noise, "That is the whole variance of a count; the mean has but a share of it."),
        within=0.05 * noise,
    )


def logarithm(counts: Array, best: Array, still: slice, size: int) -> Expected:
    """Chapter 6: the decibels of the mean over the blocks."""
    squares = (counts[still] - best[still].astype(float)) ** 2
    n = size // 8
    values = (squares - counts[still])[:, : 8 * n, : 8 * n]
    blocks = values.reshape(-1, n, 8, n, 8).mean((2, 4))
    of_mean, of_residual = (float(-10 * np.log10(max(x.mean(), 1e-9))) for x in (blocks, squares))
    of_logs = float((-10 * np.log10(blocks[blocks > 0])).mean())
    return expect(
        of_mean,
        (of_logs, "You averaged decibels, and lost the negative blocks."),
        (of_residual, "That is the residual as it is: its noise is not subtracted."),
        (of_mean / 2, "You took a root first: of a mean square it is 10 log10."),
        within=0.1,
    )


def publish(level: Array, peak: Array, surface: Array, n: int) -> Expected:
    """Chapter 7: the probability that one frame shows a row of five, tested as one."""
    from insitu.trust.likelihood import power

    absent, present = (float(np.median(v[surface])) for v in (level, peak))
    one, row = (power(absent, present, k * n, 0.01) for k in (1, 5))
    return expect(
        row,
        (one, "That is one column alone."),
        (one**5, "That is all of them, each found by itself."),
        (1 - (1 - one) ** 5, "That is one of them at least, with five chances for a false alarm."),
    )


def half() -> Expected:
    """Chapter 7: the factor by which d' falls when half of the electrons judge."""
    from insitu.trust.likelihood import d_prime

    factor = d_prime(0.225, 0.275, 600) / d_prime(0.45, 0.55, 600)
    return expect(
        factor,
        (factor**2, "The difference is halved. And the noise that it is measured by?"),
        (1 / factor, "With fewer electrons d' cannot grow: that is the other way round."),
        (1 - factor, "That is the share that is lost; the factor is asked."),
    )


def short(asked: float) -> Expected:
    """Chapter 8: the shift that is found in three frames, at one false alarm a minute for 200."""
    from insitu.measure.run_lengths import detectable_shift

    shift = detectable_shift(3, asked)
    one, often = detectable_shift(3, asked / 200), detectable_shift(3, asked, power=0.5)
    return expect(
        shift,
        (one, "That is for one column; any of 200 may call falsely."),
        (often, "That is found every other time; 95 % is asked."),
        (shift * 3**0.5, "That is the shift of the sum of all frames, in its own deviations."),
        within=0.02 * shift,
    )


def forget() -> Expected:
    """Chapter 8: the limit of an EWMA without memory, for a run length of 500."""
    from insitu.measure.run_lengths import ewma_limit

    one_sided = stats.norm.isf(1 / 500)
    return expect(
        ewma_limit(500, weight=1.0),
        (one_sided, "That is one side of the normal distribution; a chart calls on both."),
        (ewma_limit(500, weight=0.2), "That is the limit with a memory, of weight 0.2."),
        within=0.02,
    )


def vacancy(curves: Mapping[Any, Any], column_atoms: int, image_dose: float) -> Expected:
    """Chapter 9: the dose [e-/A^2] at which a missing oxygen is two standard deviations."""
    ratio = 2 * curves["O", column_atoms, image_dose]["bound"]
    needed = ratio**2 * image_dose
    return expect(
        needed,
        (needed / 4, "There one atom is one standard deviation; two are asked."),
        (ratio * image_dose, "A bound falls with the root of the dose: square."),
        (needed / image_dose, "That is the number of images; the dose is asked."),
        within=0.1 * needed,
    )


def thickness(mean: Array, judged: Any, kept: Array) -> Expected:
    """Chapter 9: the networks' error for cerium relative to that of its image [atoms]."""
    cerium = kept & judged.found_cation
    wrong, image = (mean - judged.present)[cerium], judged.image[cerium]
    level = np.bincount(image, wrong) / np.maximum(np.bincount(image), 1)
    left, before, everything = (
        float(np.sqrt((error**2).mean()))
        for error in (wrong - level[image], wrong, (mean - judged.present)[kept])
    )
    return expect(
        left,
        (before, "That is the error as it was, with nothing taken off."),
        (wrong.std(), "You took off one mean for all images; each has its own."),
        (everything, "Is oxygen in it, too? Cerium alone is asked."),
    )


def wedge(degrees: Array, truth: Array, size: int) -> Expected:
    """Chapter 10: how much of the depth of a gap across the beam is kept [%]."""
    from insitu.tomography.algebraic import sirt
    from insitu.tomography.projection import Projector

    operator = Projector(degrees, size)
    whole = truth[-1, size // 2 : size // 2 + 1]
    kept = []
    for axis in (1, 2):  # across the beam, and along it
        inside = np.isin(np.arange(size), (size // 2, size // 2 + 1))
        gap = whole * inside.reshape(np.roll((1, 1, size), axis - 2))
        without, with_gap = (sirt(operator, operator(s), 50) for s in (whole, whole - gap))
        kept.append(100 * float((gap * (without - with_gap)).sum() / (gap**2).sum()))
    return expect(
        kept[0],
        (kept[1], "That is the gap along the beam."),
        (100 - kept[0], "That is what is lost; what is kept is asked."),
        within=2.0,
    )


def mass(golden: Any, deviation: float, size: int) -> Expected:
    """Chapter 10: by how much the mass of a projection changes by noise alone [%]."""
    alone = 100 * deviation * size / float(golden.projections.sum((1, 2)).mean())
    return expect(
        alone,
        (alone / size, "That is the noise of one pixel; the sum has that of all of them."),
        (alone * size, "Noises do not add up, their squares do."),
        within=0.05 * alone,
    )


def eight(tilts: int) -> Expected:
    """Chapter 10b: the widest gap [degrees] that eight tilts in a row leave, in golden order."""
    from insitu.tomography.phantoms import tilt_angles

    gaps = {}
    for order in ("golden", "interleaved", "incremental", "binary"):
        angles = tilt_angles(order, tilts)
        rows = [np.sort(angles[k : k + 8]) for k in range(tilts - 7)]
        gaps[order] = np.array([np.diff([-70.0, *row, 70.0]).max() for row in rows])
    others = [(x.mean(), f"That is the {order} order.") for order, x in gaps.items()][1:]
    return expect(
        gaps["golden"].mean(),
        *others,
        (140 / 9, "That is the mean gap; the widest is asked."),
        (gaps["golden"].max(), "That is the worst moment; the average over all is asked."),
    )


def shifted() -> Expected:
    """Chapter 11: variance over mean of counts that were shifted by half a pixel."""
    parts = 2  # counts of which each value is the mean
    return expect(
        1 / parts,
        (1.0, "That is as before: did you shift by a whole pixel?"),
        (parts**-0.5, "That is a deviation; the variance is its square."),
        (1 / parts**2, "That is the part of one count; the other one brings as much."),
        within=0.05,
    )


def electron() -> Expected:
    """Chapter 11: the level at which the line of the variance meets zero."""
    gain, offset, read = 14, 200, 20
    below = read**2 / gain
    return expect(
        offset - below,
        (offset, "There the variance is that of the reading, and not zero."),
        (offset + below, "Reading adds variance: the line meets zero below the offset."),
        (offset - read / gain, "A deviation is not a variance."),
        (offset - read**2, "The variance of the reading is to be divided by the slope."),
        (below, "That is how far it is from the offset; the level is asked."),
        within=10.0,
    )


def fast() -> Expected:
    """Chapter 12: space of ten frames of 0.046 electrons a pixel, against that of their sum."""
    thin, thick = (float(stats.poisson(mean).entropy()) for mean in (0.046, 0.46))
    times = 10 * thin / thick
    return expect(
        times,
        (10, "That is as if an empty frame took as much space as a full one."),
        (times / 10, "That is a single one of the frames."),
        (1 / times, "Is that the other way round? The frames hold more than their sum."),
    )


def blocks(frames: int) -> Expected:
    """Chapter 12: differences of successive frames between two blocks of 32."""
    count = -(-frames // 32)
    return expect(
        count - 1,
        (count, "Behind the last block there is no other."),
        (frames - 1, "Those are all differences; of most of them one worker has both frames."),
        (2 * (count - 1), "Each place where two blocks meet has one difference."),
        within=0.0,
    )

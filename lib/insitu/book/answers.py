"""What the answer to each exercise should be, and what one finds who makes a mistake.

A function is named after its exercise, without `exercise-`, and its arguments are names of the
page. `insitu.book.exercises` calls it when a reader's number is to be checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from insitu.book.exercises import Expected

Array = Any  # of NumPy or torch, as the page has it


def about(value: float, mistakes: Mapping[str, float], share: float = 0.03) -> Expected:
    """Right is what lies within a share of the value."""
    return Expected(float(value), share * abs(float(value)), mistakes)


def column(specimen: Any, clean: Array, pixel_size: float) -> Expected:
    """Chapter 1: frames until a column's excess is three times the noise."""
    x, y = _surface(specimen)
    rows, columns = np.indices(clean.shape) * pixel_size
    excess = np.asarray(clean.cpu()) - 1
    discs = [excess[np.hypot(rows - b, columns - a) < 0.8].sum() for a, b in zip(x, y, strict=True)]
    most = max(map(abs, discs)) * pixel_size**2 * 8  # electrons
    noise = (np.pi * 0.8**2 * 8) ** 0.5
    return about(
        (3 * noise / most) ** 2,
        {
            "The ratio grows with the root of the number of frames only: square.": 3 * noise / most,
            "Is that where the excess is as large as the noise? Three times is asked.": (
                noise / most
            )
            ** 2,
            "That is the noise of one pixel; the excess is of the whole disc.": (
                3 * (8 * pixel_size**2) ** 0.5 / most
            )
            ** 2,
        },
        0.1,
    )


def black(specimen: Any, series: Array, through_focus: Array, pixel_size: float) -> Expected:
    """Chapter 1: the defocus [A] at which surface columns are darkest on average."""
    height, width = through_focus.shape[1:]
    x, y = (np.round(axis / pixel_size).astype(int) for axis in _surface(specimen))
    mean = through_focus[:, y % height, x % width].mean(1)
    return Expected(
        float(series[int(mean.argmin())]),
        float(series[1] - series[0]) / 2,
        {
            "There the columns are brightest.": float(series[int(mean.argmax())]),
            "That is the darkest single pixel; the mean over the surface columns is asked.": float(
                series[int(through_focus.flatten(1).min(1).values.argmin())]
            ),
        },
    )


def _surface(specimen: Any) -> tuple[Array, Array]:
    from insitu.simulate import specimens

    found = specimens.columns(specimen)
    there = found["surface"] if found["surface"].any() else slice(None)
    return found["x"][there], found["y"][there]


def dose() -> Expected:
    """Chapter 2: the dose [e-/A^2] that gives an SNR of 3 in pixels of 0.24 A."""
    snr, side = 3, 0.24
    return about(
        snr**2 / side**2,
        {
            "The SNR is the root of the number of electrons: square it.": snr / side**2,
            "That is the number of electrons in a pixel; a dose is one by area.": snr**2,
            "You divided by the side of a pixel, and not by its area.": snr**2 / side,
            "You multiplied by the area of a pixel: a smaller pixel needs a higher dose.": snr**2
            * side**2,
            "That is the dose of a second; the dose of one frame is asked.": 75 * snr**2 / side**2,
        },
    )


def binning() -> Expected:
    """Chapter 2: the Fano factor of sums of 2 x 2 pixels of the four-part detector."""
    from insitu.counting.categorical import Categorical
    from insitu.counting.detector import moments

    mean, variance, _ = moments(Categorical.sub_frames(4), 0.8)
    fano = float(variance[0] / mean[0])
    return about(
        fano,
        {
            "The variance became four times as large. And the mean?": 4 * fano,
            "You divided the variance of a single pixel by the mean of the sum.": fano / 4,
            "That is Poisson's; in four parts a pixel counts four electrons at the most.": 1.0,
        },
    )


def rate(movie: Any, rate: float) -> Expected:
    """Chapter 3: the frame rate at which the farthest column moves by 0.25 A a frame."""
    fastest = float(np.abs(np.diff(movie.angles)).max()) or 1.0  # degrees a frame
    rows = movie.truth(0)
    lowest = rows[rows["y"] > rows["y"].max() - 0.1]
    away = np.hypot(rows["x"] - lowest["x"].min(), rows["y"] - lowest["y"][0])
    arm = float(away.max())
    needed = rate * np.deg2rad(fastest) * arm / 0.25
    return about(
        needed,
        {
            "That is how many times as fast; the rate is asked.": needed / rate,
            "An arc is the angle in radians times the arm; yours is in degrees.": np.rad2deg(
                needed
            ),
            "You took the mean column; the one that is farthest from the foot is asked.": needed
            * float(away.mean())
            / arm,
        },
    )


def average(clean: Array, middle: int, part: Any, plan: Any) -> Expected:
    """Chapter 3: over how many frames to average, of those named."""
    blur, noise = {}, {}
    for count in (1, 3, 5, 9, 17, 33, 65):
        stack = clean[max(0, middle - count // 2) : middle + count // 2 + 1][:, *part]
        blur[count] = np.sqrt(((stack.mean(0) - clean[middle][part]) ** 2).mean())
        noise[count] = np.sqrt(clean[middle][part].mean() / plan.vacuum / len(stack))
    best = min(blur, key=lambda count: np.hypot(blur[count], noise[count]))
    return Expected(
        best,
        0.0,
        {
            "One frame has no blur, and all of the noise.": 1,
            "So many have hardly any noise left, and all of the blur.": 65,
        },
    )


def vacuum(noisy_views: Any, ours: Any, pixel: float, vacuum: float) -> Expected:
    """Chapter 4: the PSNR [dB] within 1 A of a column."""
    from insitu.trust.metrics import psnr

    view, counts = noisy_views["white"][0]
    answer, truth = ours(counts, pixel), view.clean * vacuum
    rows, columns = np.indices(truth.shape) * pixel
    away = [np.hypot(rows - y, columns - x) for y, x in view.positions]
    near = np.min(away, axis=0) < 1.0
    return Expected(
        psnr(answer[near], truth[near]),
        0.15,
        {
            "That is the whole image.": psnr(answer, truth),
            "That is the rest of the image, where no column is.": psnr(answer[~near], truth[~near]),
            "You compared with the counts, and not with the truth.": psnr(
                answer[near], np.asarray(counts)[near]
            ),
        },
    )


def hole(counts: Array, still: slice) -> Expected:
    """Chapter 5: by how much the estimate is too low, with the pixel's own count in the mean."""
    noise = float(counts[still].mean())
    return about(
        2 / 5 * noise,
        {
            "The square of a difference has the pixel's own count in it twice.": noise / 5,
            "That is the share; times the variance of a count it is the answer.": 2 / 5,
            "That is the whole variance of a count; the mean has but a share of it.": noise,
        },
        0.1,
    )


def logarithm(counts: Array, best: Array, still: slice, size: int) -> Expected:
    """Chapter 6: the decibels of the mean over the blocks."""
    values = (counts[still] - best[still].astype(float)) ** 2 - counts[still]
    n = size // 8
    blocks = values[:, : 8 * n, : 8 * n].reshape(-1, n, 8, n, 8).mean((2, 4))
    mean = float(-10 * np.log10(max(blocks.mean(), 1e-9)))
    noisy = float(-10 * np.log10((values + counts[still]).mean()))
    return Expected(
        mean,
        0.1,
        {
            "You averaged decibels, and lost the negative blocks.": float(
                (-10 * np.log10(blocks[blocks > 0])).mean()
            ),
            "That is the residual as it is: its noise is not subtracted.": noisy,
            "You took the root of the mean square first: a square has 10 log10, not 20.": mean / 2,
        },
    )


def publish(level: Array, peak: Array, surface: Array, n: int) -> Expected:
    """Chapter 7: the probability that one frame shows a row of five, tested as one."""
    from insitu.trust.likelihood import power

    absent, present = (float(np.median(v[surface])) for v in (level, peak))
    one = power(absent, present, n, 0.01)
    return about(
        power(absent, present, 5 * n, 0.01),
        {
            "That is one column alone.": one,
            "That is all five, each found by itself.": one**5,
            "That is one of five at least, with five chances for a false alarm.": 1
            - (1 - one) ** 5,
        },
    )


def half() -> Expected:
    """Chapter 7: the factor by which d' falls when half of the electrons judge."""
    from insitu.trust.likelihood import d_prime

    factor = d_prime(0.225, 0.275, 600) / d_prime(0.45, 0.55, 600)
    return about(
        factor,
        {
            "The difference is halved. And the noise that it is measured by?": factor**2,
            "With fewer electrons d' cannot grow: that is the other way round.": 1 / factor,
            "That is the share that is lost; the factor is asked.": 1 - factor,
        },
        0.015,
    )


def short(asked: float) -> Expected:
    """Chapter 8: the shift that is found in three frames, at one false alarm a minute for 200."""
    from insitu.measure.run_lengths import detectable_shift

    shift = detectable_shift(3, asked)
    return about(
        shift,
        {
            "That is for one column; one of 200 may call falsely.": detectable_shift(
                3, asked / 200
            ),
            "That is found every other time; 95 % is asked.": detectable_shift(3, asked, power=0.5),
            "That is the shift of the sum of three frames, in its own deviations.": shift * 3**0.5,
        },
        0.02,
    )


def forget() -> Expected:
    """Chapter 8: the limit of an EWMA without memory, for a run length of 500."""
    from insitu.measure.run_lengths import ewma_limit

    return Expected(
        ewma_limit(500, weight=1.0),
        0.02,
        {
            "That is one side of the normal distribution; a chart calls on both.": float(
                stats.norm.isf(1 / 500)
            ),
            "That is the limit with a memory, of weight 0.2.": ewma_limit(500, weight=0.2),
        },
    )


def vacancy(curves: Mapping[Any, Any], column_atoms: int, image_dose: float) -> Expected:
    """Chapter 9: the dose [e-/A^2] at which a missing oxygen is two standard deviations."""
    bound = curves["O", column_atoms, image_dose]["bound"]
    needed = (2 * bound) ** 2 * image_dose
    return about(
        needed,
        {
            "There the bound is one atom, which is one standard deviation; two are asked.": needed
            / 4,
            "A bound falls with the root of the dose: square.": 2 * bound * image_dose,
            "That is the number of images; the dose is asked.": needed / image_dose,
        },
        0.1,
    )


def thickness(mean: Array, judged: Any, kept: Array) -> Expected:
    """Chapter 9: the networks' error for cerium relative to that of its image [atoms]."""
    cerium = kept & judged.found_cation
    wrong, image = (mean - judged.present)[cerium], judged.image[cerium]
    level = np.bincount(image, wrong) / np.maximum(np.bincount(image), 1)
    return about(
        _rms(wrong - level[image]),
        {
            "That is the error as it was, with nothing taken off.": _rms(wrong),
            "You took off one mean for all images; each has its own.": float(wrong.std()),
            "Is oxygen in it, too? Cerium alone is asked.": _rms((mean - judged.present)[kept]),
        },
        0.04,
    )


def _rms(error: Array) -> float:
    return float(np.sqrt((error**2).mean()))


def wedge(degrees: Array, truth: Array, size: int) -> Expected:
    """Chapter 10: how much of the depth of a gap across the beam is kept [%]."""
    from insitu.tomography.algebraic import sirt
    from insitu.tomography.projection import Projector

    operator = Projector(degrees, size)
    whole = truth[-1, size // 2 : size // 2 + 1]
    kept = []
    for axis in (1, 2):  # across the beam, and along it
        gap = np.zeros_like(whole)
        cut: list[slice] = [slice(None)] * 3
        cut[axis] = slice(size // 2, size // 2 + 2)
        gap[tuple(cut)] = whole[tuple(cut)]
        without, with_gap = (sirt(operator, operator(s), 50) for s in (whole, whole - gap))
        kept.append(100 * float((gap * (without - with_gap)).sum() / (gap**2).sum()))
    return Expected(
        kept[0],
        2.0,
        {
            "That is the gap along the beam.": kept[1],
            "That is what is lost; what is kept is asked.": 100 - kept[0],
        },
    )


def mass(golden: Any, deviation: float, size: int) -> Expected:
    """Chapter 10: by how much the mass of a projection changes by noise alone [%]."""
    total = float(golden.projections.sum((1, 2)).mean())
    alone = 100 * deviation * size / total
    return about(
        alone,
        {
            "That is the noise of one pixel; the sum has that of all of them.": alone / size,
            "Noises do not add up, their squares do.": alone * size,
        },
        0.05,
    )


def eight(tilts: int) -> Expected:
    """Chapter 10b: the widest gap [degrees] that eight tilts in a row leave, in golden order."""
    from insitu.tomography.phantoms import tilt_angles

    widest, inside = {}, {}
    for order in ("golden", "interleaved", "incremental", "binary"):
        angles = tilt_angles(order, tilts)
        rows = [np.sort(angles[k : k + 8]) for k in range(tilts - 7)]
        widest[order] = float(np.mean([np.diff([-70.0, *row, 70.0]).max() for row in rows]))
        inside[order] = float(np.mean([np.diff(row).max() for row in rows]))
    return about(
        widest["golden"],
        {
            "That is eight tilts spread evenly, the best there could be.": 140 / 9,
            "The range ends at ±70°: what lies beyond your outermost tilt counts, too.": inside[
                "golden"
            ],
        }
        | {f"That is the {order} order.": widest[order] for order in list(widest)[1:]},
        0.05,
    )


def shifted() -> Expected:
    """Chapter 11: variance over mean of counts that were shifted by half a pixel."""
    parts = 2  # counts of which each value is the mean
    return about(
        1 / parts,
        {
            "That is as before: did you shift by a whole pixel?": 1.0,
            "That is a deviation; the variance is its square.": parts**-0.5,
            "That is the part of one count; the other one brings as much.": 1 / parts**2,
        },
        0.1,
    )


def electron() -> Expected:
    """Chapter 11: the level at which the line of the variance meets zero."""
    gain, offset, read = 14, 200, 20
    return about(
        offset - read**2 / gain,
        {
            "There the variance is that of the reading, and not zero.": offset,
            "Reading adds variance: the line meets zero below the offset, not above.": offset
            + read**2 / gain,
            "A deviation is not a variance.": offset - read / gain,
            "The variance of the reading has to be divided by the slope of the line.": offset
            - read**2,
            "That is how far it is from the offset; the level is asked.": read**2 / gain,
        },
        0.02,
    )


def fast() -> Expected:
    """Chapter 12: space of ten frames of 0.046 electrons a pixel, against that of their sum."""
    thin, thick = (float(stats.poisson(mean).entropy()) for mean in (0.046, 0.46))
    return about(
        10 * thin / thick,
        {
            "That is as if an empty frame took as much space as a full one.": 10.0,
            "That is one of the ten frames.": thin / thick,
            "Is that the other way round? Ten frames hold more than their sum.": thick / thin / 10,
        },
    )


def blocks(frames: int) -> Expected:
    """Chapter 12: differences of successive frames between two blocks of 32."""
    count = -(-frames // 32)
    return Expected(
        count - 1,
        0.0,
        {
            "Behind the last block there is no other.": count,
            "Those are all differences; of most of them one worker has both frames.": frames - 1,
            "Each place where two blocks meet has one difference.": 2 * (count - 1),
        },
    )

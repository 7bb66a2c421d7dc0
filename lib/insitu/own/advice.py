"""Which methods apply to a movie, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from insitu.counting.diagnosis import Finding
from insitu.own.values import Values

COARSE = 0.5  # A; of wider pixels columns are not seen
FEW = 5  # frames, with which a movie begins
SPARED = 10  # frames, of which some can be kept aside as evidence
SIZE = "give the pixel size (--pixel-size, in angstrom)"
GREY = "grey levels do not tell how many electrons they are: give counted frames"
SHARED = "frames share noise: give them as they were recorded, not averaged, resampled or filtered"
METHODS = {
    "movie alone": "Denoise, by a network that learns from the movie alone",
    "simulation": "Denoise, by the network that learned from simulations",
    "judge": "Judge a denoised movie by the counts",
    "atoms": "Test single atoms by electrons that no network has seen",
    "columns": "Name columns, and tell events",
}


class Advice(NamedTuple):
    """A method, whether it applies to a movie, and why."""

    method: str
    applies: bool
    why: str

    def in_words(self) -> str:
        """All of it, in a sentence."""
        return f"{METHODS[self.method]}: {'yes' if self.applies else 'no'}, {self.why}."


def advise(told: Values, findings: Sequence[Finding], pixel: float, frames: int) -> list[Advice]:
    """Which methods apply, and why.

    Parameters
    ----------
    told : Values
        What the values of the movie are.
    findings : sequence of Finding
        What is known of its noise.
    pixel : float
        [A], 0 if it is not known.
    frames : int
        That are not blank.
    """
    counts = told.kind != "grey"
    fresh = next((f.good for f in findings if "frame to frame" in f.question), True)
    fresh = fresh or frames == 2  # of which it cannot be told
    if frames < 2:
        alone = "a single frame cannot tell its noise from its specimen"
    elif not pixel:
        alone = SIZE
    else:
        alone = "" if fresh else SHARED
    good = (
        "the noise of a count cannot be predicted from other counts"
        if counts
        else "its noise is independent, and squares do without knowing what an electron is"
    )
    judge = (GREY if not counts else "") or ("" if fresh else SHARED)
    small = judge or (SIZE if not pixel else "")
    if not small and pixel > COARSE:
        small = f"pixels of {pixel:g} A are wider than {COARSE:g} A"
    few = f"{frames} frames are too few to keep some aside as evidence" if frames < SPARED else ""
    brief = f"events need {FEW} frames or more" if frames < FEW else ""
    return [
        _advice("movie alone", alone, good),
        _simulation(told, pixel, frames) if fresh else Advice("simulation", False, SHARED),
        _advice("judge", judge, "the variance of counts is known"),
        _advice(
            "atoms",
            small or few,
            "one frame in five is kept aside, and is evidence that no network has seen",
        ),
        _advice(
            "columns",
            small or brief,
            "columns may be resolved; whether a crystal is seen is found out",
        ),
    ]


def _advice(method: str, against: str, why: str) -> Advice:
    return Advice(method, not against, against or why)


def _simulation(told: Values, pixel: float, frames: int) -> Advice:
    """Whether the network that learned from simulations was trained for such data."""
    from insitu.denoise.saved import load_denoiser  # which loads torch

    if told.kind == "grey" or not pixel:
        why = "it takes electrons" if pixel else SIZE
        return Advice("simulation", False, why)
    ours: Any = load_denoiser("restorer" if frames >= FEW else "pt_ceo2")
    dose = float(told.frames.mean(dtype=np.float64)) / pixel**2
    for name, value, (low, high), unit in (
        ("pixels", pixel, ours.pixel_size, "A"),
        ("mean doses", dose, ours.dose, "e-/A^2"),
    ):
        if not low * 0.99 <= value <= high * 1.01:
            why = f"it was trained for {name} of {low:g} to {high:g} {unit}, not {value:.3g}"
            return Advice("simulation", False, why)
    why = "pixels and dose are what it was trained for; it knows platinum on ceria alone"
    return Advice("simulation", True, why)

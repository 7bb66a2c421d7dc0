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
    counts, fine = told.kind != "grey", 0 < pixel <= COARSE
    fresh = next((f.good for f in findings if "frame to frame" in f.question), frames > 1)
    fresh = fresh or frames == 2
    size = f"pixels of {pixel:g} A are wider than {COARSE:g} A" if pixel else "give the pixel size"
    grey = "grey levels do not tell how many electrons they are: give counted frames"
    if frames < 2:
        alone = False, "a single frame cannot tell its noise from its specimen"
    elif not pixel:
        alone = False, size
    elif not fresh:
        alone = (
            False,
            "frames share noise: give them as they were recorded, not averaged, "
            "resampled or filtered",
        )
    elif counts:
        alone = True, "the noise of a count cannot be predicted from other counts"
    else:
        alone = True, "its noise is independent, and squares do without knowing what an electron is"
    advice = [Advice("movie alone", *alone), _simulation(told, pixel, frames)]
    advice.append(Advice("judge", counts, "the variance of counts is known" if counts else grey))
    if not counts or not fine:
        atoms = False, size if counts else grey
    elif frames < SPARED:
        atoms = False, f"{frames} frames are too few to keep some aside as evidence"
    else:
        atoms = True, "one frame in five is kept aside, and is evidence that no network has seen"
    if not counts or not fine:
        columns = False, size if counts else grey
    elif frames < FEW:
        columns = False, f"events need {FEW} frames or more"
    else:
        columns = True, "columns may be resolved; whether a crystal is seen is found out"
    return [*advice, Advice("atoms", *atoms), Advice("columns", *columns)]


def _simulation(told: Values, pixel: float, frames: int) -> Advice:
    """Whether the network that learned from simulations was trained for such data."""
    from insitu.denoise.saved import load_denoiser  # which loads torch

    if told.kind == "grey" or not pixel:
        why = "it takes electrons" if pixel else "give the pixel size"
        return Advice("simulation", False, why)
    ours: Any = load_denoiser("restorer" if frames >= FEW else "pt_ceo2")
    dose = float(told.frames.mean(dtype=np.float64)) / pixel**2
    for name, value, (low, high), unit in (
        ("pixels", pixel, ours.pixel_size, "A"),
        ("doses", dose, ours.dose, "e-/A^2"),
    ):
        if not low * 0.99 <= value <= high * 1.01:
            why = f"it was trained for {name} of {low:g} to {high:g} {unit}, not {value:.3g}"
            return Advice("simulation", False, why)
    why = "pixels and dose are what it was trained for; it knows platinum on ceria alone"
    return Advice("simulation", True, why)

"""Denoisers trained on simulated images, and their use on counts of any size.

A network sees pixels of 0.13 to 0.26 A: finer ones are binned, which loses nothing that the lens
resolves, and the answer is interpolated back. It therefore serves every magnification. Far above
the doses of its training, where its own errors would outweigh those of counting, what its answer
leaves unexplained is filtered and added to it.

GainTuning adapts one gain for each channel of such a network to a single image [1]_.

.. [1] S. Mohan et al., Adaptive denoising via GainTuning, NeurIPS 2021.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from tqdm import tqdm

from insitu import InputError, checks
from insitu.denoise.binning import binned, binning, tiles, unbinned
from insitu.denoise.local_wiener import local_wiener
from insitu.denoise.networks import BiasFreeCNN, BiasFreeUNet
from insitu.learning.training import Result

NETWORKS: dict[str, type[nn.Module]] = {"BiasFreeCNN": BiasFreeCNN, "BiasFreeUNet": BiasFreeUNet}
BEYOND = 4.0  # times the largest dose of the training: then its own errors outweigh the noise
TILE, HALO = 512, 192  # pixels of the network; HALO is rounded to the network's unit
SEEN, TUNING_RATE = 0.8, 0.01  # share of the electrons that GainTuning shows, and its steps
DISTRUST = "do not trust its answer"
MARGIN = 16  # pixels by which the image is mirrored at its edges, where convolutions see zeros


@dataclass
class ImageDenoiser:
    """A network that denoises image by image, and what it was trained for.

    Parameters
    ----------
    network : Module
        From counts (n, 1, y, x) to expected counts.
    pixel_size : (float, float)
        The range that it was trained for [A].
    dose : (float, float)
        The range of doses [e-/A^2].
    binned : bool
        Bin fine pixels for it.
    """

    network: nn.Module
    pixel_size: tuple[float, float]
    dose: tuple[float, float]
    binned: bool = True

    def __call__(
        self,
        counts: ArrayLike | Tensor,
        pixel_size: float,
        *,
        tile: int = TILE,
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Denoise images or a movie.

        Of an image with more than 4 times the largest dose of the training, the counts minus the
        answer are filtered by `local_wiener`, and what stands out of the noise is added.

        Parameters
        ----------
        counts : (y, x) or (n, y, x) array
            Electrons per pixel, each image by itself.
        pixel_size : float
            [A].
        tile : int
            Side of the tiles in which large images are worked on, in pixels of the network. Tiles
            and the whole agree to 1e-3.
        progress : bool
            Show a bar.

        Returns
        -------
        array of float32
            Expected electrons per pixel, of the same shape.

        Raises
        ------
        InputError
            If the counts are no numbers, NaN or negative, or the pixel size is not positive.

        Warns
        -----
        UserWarning
            If the pixel size or the dose is not one that the network was trained for.
        """
        images = as_images(counts)
        checks.positive("pixel_size", pixel_size, "A")
        dose = float(images.mean(dtype=np.float64)) / pixel_size**2
        self._warn(dose, pixel_size)
        stack = images.reshape(-1, *images.shape[-2:])
        factor = self._binning(pixel_size)
        result = np.empty(stack.shape, np.float32)
        for index, image in enumerate(tqdm(stack, "denoising", disable=not progress)):
            own_dose = float(image.mean(dtype=np.float64)) / pixel_size**2
            again = self.binned and own_dose > BEYOND * self.dose[1]
            answer = self._run(torch.from_numpy(binned(image, factor)), tile, again).numpy()
            result[index] = unbinned(answer, factor, image.shape)
        return result.reshape(images.shape)

    def save(self, path: Path, result: Result, **provenance: Any) -> Path:
        """Write the network of a training, with all that is known of its making."""
        limits = {"pixel_size": list(self.pixel_size), "dose": list(self.dose)}
        return result.save(path, binned=self.binned, trained_for=limits, **provenance)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ImageDenoiser:
        """Make the denoiser that a record tells of, with weights that are not trained."""
        network = NETWORKS[record["network"]](**record["options"])
        pixel_size, dose = (tuple(record["trained_for"][key]) for key in ("pixel_size", "dose"))
        return cls(network, pixel_size, dose, bool(record["binned"]))

    def _binning(self, pixel_size: float) -> int:
        return binning(pixel_size) if self.binned else 1

    @torch.no_grad()
    def _run(self, image: Tensor, tile: int, again: bool) -> Tensor:
        """Run the network on one image (y, x), in tiles with a halo.

        With `again`, what stands out of the noise in the image minus the answer is added.
        """
        device = next(self.network.parameters()).device
        unit = getattr(self.network, "unit", 1)
        rows, columns = image.shape
        whole = _filled(image, unit, MARGIN)
        result = torch.empty(whole.shape)
        side, halo = max(unit, tile // unit * unit), -(-HALO // unit) * unit
        for place, seen, inner in tiles(whole.shape, side, halo):
            part = whole[seen].to(device)[None, None]
            part = part.contiguous(memory_format=torch.channels_last)
            out = self.network(part)
            if again:
                out = out + local_wiener(part - out, 32, threshold=4.5)
            result[place] = out[0, 0][inner].cpu()
        return result[MARGIN : MARGIN + rows, MARGIN : MARGIN + columns]

    def _warn(self, dose: float, pixel_size: float) -> None:
        again = self.binned and dose > BEYOND * self.dose[1]
        advice = "what it leaves out is filtered" if again else DISTRUST
        warn_untrained(dose, self.dose, pixel_size, self.pixel_size, advice)


def warn_untrained(
    dose: float,
    doses: tuple[float, float],
    pixel_size: float,
    pixel_sizes: tuple[float, float],
    advice: str = DISTRUST,
) -> None:
    """Warn of a dose or a pixel size beyond those that a network was trained for."""
    low, high = pixel_sizes
    if not low * 0.99 <= pixel_size <= high * 1.01:
        warnings.warn(
            f"pixel_size: {pixel_size:g} A is outside {low:g} to {high:g} A, for which this "
            f"network was trained; {DISTRUST}",
            stacklevel=4,
        )
    if not doses[0] * 0.5 <= dose <= doses[1] * 2:
        warnings.warn(
            f"dose: {dose:.3g} e-/A^2 is outside {doses[0]:g} to {doses[1]:g} e-/A^2, "
            f"for which this network was trained; {advice}",
            stacklevel=4,
        )


def _filled(image: Tensor, unit: int, margin: int = 0) -> Tensor:
    """Continue an image by its mirror image: by a margin, then to whole units."""
    fill = [(margin, margin + -(n + 2 * margin) % unit) for n in image.shape]
    return torch.from_numpy(np.pad(image.numpy(), fill, mode="symmetric"))


def as_images(counts: ArrayLike | Tensor) -> NDArray[Any]:
    """Counts as an array (y, x) or (n, y, x), held against what counts can be.

    Raises
    ------
    InputError
        If they are of another shape, no numbers, NaN or negative.
    """
    images = np.asarray(counts.detach().cpu() if isinstance(counts, Tensor) else counts)
    if images.ndim not in (2, 3) or 0 in images.shape:
        raise InputError(
            f"counts: expected an image (y, x) or a movie (t, y, x), got shape {images.shape}"
        )
    if images.dtype.kind not in "buif":
        raise InputError(f"counts: expected numbers, got values of type {images.dtype}")
    checks.finite("counts", images)
    checks.not_negative("counts", images)
    return images


def gain_tuned(
    denoiser: ImageDenoiser,
    counts: NDArray[np.generic],
    pixel_size: float,
    *,
    steps: int = 60,
    seed: int = 0,
) -> ImageDenoiser:
    """Adapt the gains of a denoiser to images, without a truth; all other weights stay.

    In each step the electrons are divided at random. The network sees four fifths of them and says
    how many of the others to expect in each pixel; their Poisson likelihood is made larger.

    Parameters
    ----------
    denoiser : ImageDenoiser
        What to begin with; it is not changed.
    counts : (y, x) or (n, y, x) array of counts
        Electrons per pixel.
    pixel_size : float
        [A].
    steps : int
        Of Adam.
    seed : int
        Of the divisions.

    Raises
    ------
    InputError
        If the counts are no whole numbers.
    """
    images = as_images(counts)
    checks.whole_numbers("counts", images)
    factor = denoiser._binning(pixel_size)
    coarse = [binned(image, factor) for image in images.reshape(-1, *images.shape[-2:])]
    network = copy.deepcopy(denoiser.network)
    device, unit = next(network.parameters()).device, getattr(network, "unit", 1)
    y = torch.stack([_filled(torch.from_numpy(c), unit) for c in coarse])[:, None].to(device)
    gains = {name: p.detach() for name, p in network.named_parameters() if name.endswith("gain")}
    factors = {name: nn.Parameter(torch.ones_like(gain)) for name, gain in gains.items()}
    optimiser = torch.optim.Adam(factors.values(), TUNING_RATE)
    generator = torch.Generator(device).manual_seed(seed)
    floor = 1e-3 * float(y.mean())
    for _ in range(steps):  # Poisson counts fall into two independent parts
        seen = torch.binomial(y, torch.full_like(y, SEEN), generator=generator)
        rest = y - seen
        tuned = {name: factors[name] * gain for name, gain in gains.items()}
        output = torch.func.functional_call(network, tuned, (seen,))
        expected = ((1 - SEEN) / SEEN * output).clamp(min=floor)
        loss = (expected - rest * expected.log()).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for name, gain in gains.items():
        gain.mul_(factors[name].detach())
    return replace(denoiser, network=network)

"""Denoisers trained on simulated images, and their use on counts of any size.

A network sees pixels of 0.13 to 0.26 A: finer ones are summed, which loses nothing that the lens
resolves, and the answer is interpolated back. It therefore serves every magnification. Far above
the doses of its training, where its own errors would outweigh those of counting, what its answer
leaves unexplained is filtered and added to it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from insitu import InputError
from insitu.denoise.binning import binning, spread, summed
from insitu.denoise.local_wiener import local_wiener
from insitu.denoise.networks import BiasFreeCNN, BiasFreeUNet
from insitu.learning import checkpoints

NETWORKS: dict[str, type[nn.Module]] = {"BiasFreeCNN": BiasFreeCNN, "BiasFreeUNet": BiasFreeUNet}
BEYOND = 4.0  # times the largest dose of the training: then its own errors outweigh the noise
TILE, HALO = 512, 192  # pixels of the network; HALO is rounded to the network's unit
MARGIN = 16  # pixels by which the image is mirrored at its edges, where convolutions see zeros


def load_denoiser(name: str | Path, *, device: torch.device | str = "cpu") -> Denoiser:
    """Open a denoiser.

    Parameters
    ----------
    name : str or Path
        `pt_ceo2` (for all magnifications and contrasts), `bf_cnn` (20 layers of 64 channels,
        for 0.062 A/px), or a .safetensors file.
    device : device
        Where it is to work.

    Raises
    ------
    InputError
        If there is no such checkpoint, or it is not what its record says.
    """
    path = checkpoints.find(name)
    tensors, record = checkpoints.load(path)
    try:
        kind = NETWORKS[record["network"]]
        network = kind(**record["options"])
        limits = {key: tuple(record["trained_for"][key]) for key in ("pixel_size", "dose")}
        binned = bool(record["binned"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"checkpoint: {path.name} is not that of a denoiser") from None
    tensors = {key: value.float() for key, value in tensors.items()}
    checkpoints.fill(network, tensors, path.name)
    return Denoiser(network.to(device).eval(), limits["pixel_size"], limits["dose"], binned)


@dataclass
class Denoiser:
    """A network and what it was trained for.

    Parameters
    ----------
    network : Module
        From counts (n, 1, y, x) to expected counts.
    pixel_size : (float, float)
        The range that it was trained for [A].
    dose : (float, float)
        The range of doses [e-/A^2].
    binned : bool
        Sum fine pixels for it.
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
        tile: int | None = TILE,
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
        tile : int, optional
            Side of the tiles in which large images are worked on, in pixels of the network; None
            takes each whole. Both agree to 1e-3.
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
        images = checked(counts)
        if not (np.isfinite(pixel_size) and pixel_size > 0):
            raise InputError(f"pixel_size: got {pixel_size:g}, allowed is a positive number of A")
        dose = float(images.mean(dtype=np.float64)) / pixel_size**2
        self._warn(dose, pixel_size)
        stack = images.reshape(-1, *images.shape[-2:])
        factor = binning(pixel_size) if self.binned else 1
        result = np.empty(stack.shape, np.float32)
        for index in tqdm(range(len(stack)), "denoising", disable=not progress):
            own_dose = float(stack[index].mean(dtype=np.float64)) / pixel_size**2
            again = self.binned and own_dose > BEYOND * self.dose[1]
            coarse = torch.from_numpy(summed(stack[index], factor))
            result[index] = spread(self._run(coarse, tile, again).numpy(), factor, stack.shape[-2:])
        return result.reshape(images.shape)

    @torch.no_grad()
    def _run(self, image: Tensor, tile: int | None, again: bool = False) -> Tensor:
        """Run the network on one image (y, x), whole or in tiles with a halo.

        With `again`, what stands out of the noise in the image minus the answer is added.
        """
        device = next(self.network.parameters()).device
        unit = getattr(self.network, "unit", 1)
        rows, columns = image.shape
        whole = filled(image, unit, MARGIN)
        halo = -(-HALO // unit) * unit
        side = max(unit, (tile or max(whole.shape)) // unit * unit)
        result = torch.empty(whole.shape)
        for top in range(0, whole.shape[0], side):
            for left in range(0, whole.shape[1], side):
                y0, x0 = max(0, top - halo), max(0, left - halo)
                part = whole[y0 : top + side + halo, x0 : left + side + halo].to(device)
                part = part[None, None].contiguous(memory_format=torch.channels_last)
                out = self.network(part)
                if again:
                    out = out + local_wiener(part - out, 32, threshold=4.5)
                out = out[0, 0, top - y0 :, left - x0 :][:side, :side].cpu()
                result[top : top + out.shape[0], left : left + out.shape[1]] = out
        return result[MARGIN : MARGIN + rows, MARGIN : MARGIN + columns]

    def _warn(self, dose: float, pixel_size: float) -> None:
        low, high = self.pixel_size
        if not low * 0.99 <= pixel_size <= high * 1.01:
            warnings.warn(
                f"pixel_size: {pixel_size:g} A is outside {low:g} to {high:g} A, for which this "
                "network was trained; do not trust its answer",
                stacklevel=3,
            )
        if not self.dose[0] * 0.5 <= dose <= self.dose[1] * 2:
            filtered = self.binned and dose > BEYOND * self.dose[1]
            advice = "what it leaves out is filtered" if filtered else "do not trust its answer"
            warnings.warn(
                f"dose: {dose:.3g} e-/A^2 is outside {self.dose[0]:g} to {self.dose[1]:g} e-/A^2, "
                f"for which this network was trained; {advice}",
                stacklevel=3,
            )


def filled(image: Tensor, unit: int, margin: int = 0) -> Tensor:
    """Continue an image by its mirror image: by a margin, then to whole units."""
    fill = [(margin, margin + -(n + 2 * margin) % unit) for n in image.shape]
    padded = np.pad(image.numpy(), fill, mode="symmetric")
    return torch.from_numpy(padded)


def checked(counts: ArrayLike | Tensor) -> NDArray[Any]:
    """Hold counts against what counts can be; see `Denoiser`."""
    images = np.asarray(counts.detach().cpu() if isinstance(counts, Tensor) else counts)
    if images.ndim not in (2, 3) or 0 in images.shape:
        raise InputError(
            f"counts: expected an image (y, x) or a movie (t, y, x), got shape {images.shape}"
        )
    if images.dtype.kind not in "buif":
        raise InputError(f"counts: expected numbers, got values of type {images.dtype}")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        bad = int((~np.isfinite(images)).sum())
        raise InputError(f"counts: {bad} values are NaN or infinite; replace or crop them")
    if images.min() < 0:
        raise InputError(
            f"counts: the smallest value is {images.min():g}, but counts are never negative; undo "
            "the background subtraction or gain correction"
        )
    return images

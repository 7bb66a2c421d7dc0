"""Networks without additive constants: f(a x) = a f(x) for every a > 0.

Counts go in and expected counts come out, both (n, 1, y, x). A network that adds nothing to what
it is shown behaves alike at every dose [1]_.

.. [1] S. Mohan, Z. Kadkhodaie, E. P. Simoncelli, C. Fernandez-Granda, Robust and interpretable
   blind image denoising via bias-free convolutional neural networks, ICLR 2020.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise, product

import torch
from torch import Tensor, nn
from torch.nn import functional

from insitu import InputError
from insitu.denoise.local_wiener import local_wiener, mirrored


class BiasFreeNorm(nn.Module):
    """Divide each channel by its standard deviation over the batch, and subtract nothing.

    In evaluation the standard deviation is the running one of training, a constant.

    Parameters
    ----------
    channels : int
        Of the input (n, channels, y, x).
    """

    running_deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_deviation", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        if self.training:
            deviation = x.float().var((0, 2, 3), unbiased=False).add(1e-12).sqrt()
            self.running_deviation.lerp_(deviation.detach(), 0.1)
        else:
            deviation = self.running_deviation
        return x * (self.gain / deviation.clamp(min=1e-6)).to(x.dtype)[:, None, None]


class BiasFreeCNN(nn.Module):
    """A column of 3 x 3 convolutions, rectified and normalised between: it gives the noise.

    Its output g is taken from the counts, f(y) = y - g(y), as in the networks of S. Mohan et al.
    With 20 layers of 64 channels it is the network of J. Vincent et al. (2020): 664,704 weights,
    18 x 64 gains, and a pixel sees 41 x 41 others.

    Parameters
    ----------
    layers : int
        Number of convolutions, 2 or more.
    channels : int
        Between them.
    """

    def __init__(self, layers: int = 20, channels: int = 64) -> None:
        super().__init__()
        self.options = {"layers": layers, "channels": channels}
        parts: list[nn.Module] = [_convolution(1, channels), nn.ReLU()]
        for _ in range(layers - 2):
            parts += [_convolution(channels, channels), BiasFreeNorm(channels), nn.ReLU()]
        self.body = nn.Sequential(*parts, _convolution(channels, 1))
        _initialise(self)

    def forward(self, counts: Tensor) -> Tensor:  # noqa: D102
        return counts - self.body(counts)


class BiasFreeUNet(nn.Module):
    """A pyramid of convolutions: each level sees twice as far at a quarter of the pixels.

    Sizes that the pyramid cannot halve are filled up by reflection and cut off again.

    Parameters
    ----------
    channels : int
        At the finest level; each further one has twice as many, up to 4 times.
    levels : int
        How often the image is halved.
    blocks : int or sequence of int
        Pairs of convolutions at each level, on the way down and on the way up; one number for
        all levels, or one for each of the levels + 1.
    fold : int
        So many pixels across go into the channels first, and come out of them last: an image
        whose pixels are finer than what the lens resolves costs fold^2 times less.
    windows : sequence of int
        The network is also shown the image as filtered by `local_wiener` in windows of these
        sides, and learns how much of each to take. They average a lattice over many columns,
        which convolutions take long to learn. For one input and one output alone.
    inputs, outputs : int
        Images that are shown, and that are given back.
    """

    def __init__(
        self,
        channels: int = 32,
        levels: int = 3,
        blocks: int | Sequence[int] = 1,
        fold: int = 1,
        windows: Sequence[int] = (),
        inputs: int = 1,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        each = [blocks] * (levels + 1) if isinstance(blocks, int) else list(blocks)
        if len(each) != levels + 1:
            raise InputError(f"blocks: got {len(each)} numbers, allowed are {levels + 1}")
        self.options = {
            "channels": channels,
            "levels": levels,
            "blocks": each,
            "fold": fold,
            "windows": list(windows),
            "inputs": inputs,
            "outputs": outputs,
        }
        widths = [channels * min(2**level, 4) for level in range(levels + 1)]
        self.windows = list(windows)
        self.first = _convolution(fold**2 * (inputs + len(windows)), channels)
        self.down = nn.ModuleList(_stage(w, n) for w, n in zip(widths, each, strict=True))
        self.shrink = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2, bias=False) for a, b in pairwise(widths)
        )
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 2, stride=2, bias=False) for a, b in pairwise(widths)
        )
        self.up = nn.ModuleList(_stage(w, n) for w, n in zip(widths[:-1], each[:-1], strict=True))
        self.last = _convolution(channels, outputs * fold**2)
        self.fold, self.unit = fold, fold * 2**levels
        _initialise(self)
        if windows:  # begin with what the widest window gives
            self.mixed = nn.Conv2d(1 + len(windows), 1, 5, padding=2, bias=False)
            with torch.no_grad():
                self.mixed.weight.zero_()[0, -1, 2, 2] = 1
                self.last.weight.mul_(0.1)

    def forward(self, counts: Tensor, copies: int = 1) -> Tensor:
        """From (n, inputs / copies, y, x), each of which stands for so many equal inputs."""
        rows, columns = counts.shape[-2:]
        unit = self.unit
        fill = (-rows % unit, -columns % unit)
        x = mirrored(counts, (0, fill[0]), (0, fill[1])) if any(fill) else counts
        shown = torch.cat([x, *(local_wiener(x, side) for side in self.windows)], 1)
        x = self.folded(shown, copies)
        kept: list[Tensor] = []
        for stage, shrink in zip(self.down[:-1], self.shrink, strict=True):
            x = stage(x)
            kept.append(x)
            x = shrink(x)
        x = self.down[-1](x)
        for level in reversed(range(len(self.grow))):
            x = self.up[level](self.grow[level](x) + kept[level])
        answer = functional.pixel_shuffle(self.last(x), self.fold)
        if self.windows:
            answer = answer + self.mixed(shown)
        return answer[..., :rows, :columns]

    def folded(self, shown: Tensor, copies: int) -> Tensor:
        """The first convolution of folded images, as one with steps of `fold`: nothing is moved."""
        fold, weight = self.fold, self.first.weight.unflatten(1, (-1, copies, self.fold, self.fold))
        weight = weight.sum(2).permute(0, 1, 4, 2, 5, 3)  # (outputs, inputs, 3, fold, 3, fold)
        weight = weight.flatten(2, 3).flatten(3, 4)
        return functional.conv2d(shown, weight, self.first.bias, stride=fold, padding=fold)


class Residual(nn.Module):
    """x + gain * conv(relu(conv(relu(x)))), the gain of each channel learned."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (_convolution(channels, channels) for _ in range(2))
        self.gain = nn.Parameter(torch.full((channels, 1, 1), 0.2))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        change = self.second(functional.relu(self.first(functional.relu(x))))
        return torch.addcmul(x, self.gain, change)


def symmetrised(answer: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean of the answers (.., y, x) to the eight rotations and mirror images, each turned back.

    >>> image = torch.rand(1, 1, 8, 12)
    >>> bool(torch.allclose(symmetrised(lambda turned: turned, image), image))
    True
    """
    total: Tensor | float = 0.0
    for turns, mirror in product(range(4), (False, True)):
        turned = torch.rot90(images, turns, (-2, -1))
        found = answer((turned.mT if mirror else turned).contiguous())
        total = total + torch.rot90(found.mT if mirror else found, -turns, (-2, -1))
    return torch.as_tensor(total / 8)


def with_constants(network: nn.Module) -> nn.Module:
    """Copy a network and let every convolution add a learned constant to each channel."""
    network = copy.deepcopy(network)
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            part.bias = nn.Parameter(torch.zeros(part.out_channels))
    return network


def receptive_field(network: nn.Module, size: int = 129) -> int:
    """How many pixels across the output pixel in the middle depends on.

    It is found by the gradient of a copy whose weights are all positive, in which no path is cut
    by a rectifier.

    Parameters
    ----------
    network : Module
        Maps (1, 1, size, size) to the same shape.
    size : int
        Of the image on which it is tried; the answer is at most this.
    """
    network = copy.deepcopy(network).cpu().eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(1 / max(1, weight[0].numel()))
    generator = torch.Generator().manual_seed(0)
    image = (1 + torch.rand(1, 1, size, size, generator=generator)).requires_grad_(True)
    middle = network(image)[0, 0, size // 2, size // 2]
    (gradient,) = torch.autograd.grad(middle, image)
    seen = gradient[0, 0].abs().sum(0).nonzero().flatten()
    return int(seen.max() - seen.min()) + 1


def blurred(images: Tensor, width: float) -> Tensor:
    """Images (n, k, y, x) under a Gaussian with a standard deviation of so many pixels."""
    reach = int(3 * width)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width) ** 2).to(images)
    kernel = (kernel / kernel.sum()).reshape(1, 1, 1, -1)
    blurred = mirrored(images, (reach, reach), (reach, reach)).flatten(0, 1)[:, None]
    for turned in (kernel, kernel.mT):
        blurred = functional.conv2d(blurred, turned)
    return blurred.reshape(images.shape)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _stage(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*[Residual(channels) for _ in range(blocks)])


def _initialise(network: nn.Module) -> None:
    """He's initialisation: without constants, PyTorch's own lets signals die out."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")

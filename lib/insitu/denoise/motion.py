"""How the specimen moves, from place to place and from frame to frame.

Motion is found in denoised pictures, without any truth, by least squares in Gaussian windows; a
path over many frames is a chain of such steps, because a lattice looks alike once every spacing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from insitu.denoise.local_wiener import mirrored

HALF = 2  # pictures are halved: a motion is smooth, and half of the pixels tell it as well
GRID = 16  # pixels from one displacement to the next
WINDOW = 64.0  # standard deviation of the window in which a motion is found [pixels]
RIDGE = 0.01  # of the mean square gradient: where there is none, nothing has moved


def displacements(first: Tensor, second: Tensor, steps: int = 4) -> Tensor:
    """How far each place of the first images has moved in the second.

    Parameters
    ----------
    first, second : (n, y, x) tensors
        Denoised images that share no counts: noise that they share has not moved.
    steps : int
        Of Newton's method.

    Returns
    -------
    (n, 2, rows, columns) tensor
        Along x and y [pixels], on a grid of one place for each 16 x 16 pixels, in their middle.

    Notes
    -----
    Least squares in a Gaussian window around each place [1]_: the difference of the images is
    explained by a movement of the window as a rigid body. With gx and gy the gradients, the
    image changes by gx and gy a pixel, and by (x - x0) gy - (y - y0) gx a radian.

    References
    ----------
    .. [1] B. D. Lucas, T. Kanade, Proc. Imaging Understanding Workshop (1981) 121.

    Examples
    --------
    >>> y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    >>> waves = torch.stack([torch.sin(x / 3) + torch.sin(y / 4)])
    >>> moved = torch.stack([torch.sin((x - 1) / 3) + torch.sin(y / 4)])
    >>> [round(float(part), 1) for part in displacements(waves, moved)[0, :, 2, 2]]
    [1.0, 0.0]
    """
    first, second = (_blocks(images, HALF) for images in (first, second))
    n, rows, columns = first.shape
    grid = GRID // HALF
    flow = first.new_zeros(n, 2, -(-rows // grid), -(-columns // grid))
    y, x = (torch.arange(k).to(first) * HALF / WINDOW for k in (rows, columns))
    y = y[:, None]
    at = [_blocks(part.expand(rows, columns), grid) for part in (x, y)]
    unit = torch.eye(3, dtype=first.dtype, device=first.device)
    about = unit.expand(*at[0].shape, 3, 3).clone()  # from turns about the corner to the place
    about[..., 2, 0], about[..., 2, 1] = at[1], -at[0]
    for _ in range(steps):
        moved = warped(second, flow, grid)
        gy, gx = torch.gradient((moved + first) / 2, dim=(1, 2))
        rest = first - moved
        changes = [gx, gy, x * gy - y * gx]
        products = [a * b for k, a in enumerate(changes) for b in (*changes[k:], rest)]
        means = _windowed(torch.stack(products, 1), grid).movedim(1, -1)
        xx, xy, xt, xr, yy, yt, yr, tt, tr = means.unbind(-1)
        square = torch.stack([xx, xy, xt, xy, yy, yt, xt, yt, tt], -1).unflatten(-1, (3, 3))
        square = about @ square @ about.mT
        side = about @ torch.stack([xr, yr, tr], -1)[..., None]
        ridge = RIDGE * (xx + yy).mean((1, 2)).reshape(-1, 1, 1, 1, 1) + 1e-9
        flow = flow + torch.linalg.solve(square + ridge * unit, side)[..., :2, 0].movedim(-1, 1)
    return HALF * flow


def _blocks(images: Tensor, side: int) -> Tensor:
    """Means over squares; the last ones are filled up by mirror images."""
    fill = (-images.shape[-2] % side, -images.shape[-1] % side)
    images = mirrored(images, (0, fill[0]), (0, fill[1]))
    flat = functional.avg_pool2d(images.reshape(-1, 1, *images.shape[-2:]), side)
    return flat.reshape(*images.shape[:-2], *flat.shape[-2:])


def _windowed(images: Tensor, grid: int) -> Tensor:
    """Means over Gaussian windows, one for each place of the grid, times the same constant."""
    coarse = _blocks(images, grid)
    reach = int(3 * WINDOW / GRID)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) * GRID / WINDOW) ** 2).to(coarse)
    kernel = kernel / kernel.sum()
    flat = coarse.reshape(-1, 1, *coarse.shape[-2:])
    flat = functional.conv2d(flat, kernel[None, None, :, None], padding=(reach, 0))
    flat = functional.conv2d(flat, kernel[None, None, None, :], padding=(0, reach))
    return flat.reshape(coarse.shape)


def warped(images: Tensor, flow: Tensor, grid: int = GRID) -> Tensor:
    """Images (n, y, x) as seen at each place moved by the flow (n, 2, rows, columns) [pixels]."""
    rows, columns = images.shape[-2:]
    coarse = flow.shape[-2:]
    down, right = _between(rows, grid, coarse[0], flow), _between(columns, grid, coarse[1], flow)
    full = down @ flow @ right.mT
    y, x = (torch.arange(k, dtype=images.dtype, device=images.device) for k in (rows, columns))
    places = images.new_empty(len(flow), rows, columns, 2)
    torch.add((2 * x + 1) / columns - 1, full[:, 0], alpha=2 / columns, out=places[..., 0])
    torch.add((2 * y[:, None] + 1) / rows - 1, full[:, 1], alpha=2 / rows, out=places[..., 1])
    return functional.grid_sample(
        images[:, None], places, mode="bilinear", padding_mode="reflection", align_corners=False
    )[:, 0]


def _between(number: int, grid: int, coarse: int, like: Tensor) -> Tensor:
    """Weights (number, coarse) by which pixels lie between places of a grid, for a product."""
    place = (torch.arange(number, dtype=like.dtype, device=like.device) + 0.5) / grid - 0.5
    at = torch.arange(coarse, dtype=like.dtype, device=like.device)
    return (1 - (place.clamp(0, coarse - 1)[:, None] - at).abs()).clamp(min=0)


def motion(pictures: Tensor, batch: int = 16) -> tuple[Tensor, Tensor]:
    """Displacements from each frame to the next, and from each to the one before.

    Returns
    -------
    forward, backward : (t - 1, 2, rows, columns) tensors
        forward[t] leads from frame t to t + 1, backward[t] from t + 1 to t.
    """
    pairs = zip(pictures[:-1].split(batch), pictures[1:].split(batch), strict=True)
    forward = torch.cat([displacements(here, there) for here, there in pairs])
    backward = -forward
    for _ in range(4):  # b(x) = -f(x + b(x))
        backward = -at_places(forward, backward)
    return forward, backward


def at_places(flow: Tensor, at: Tensor) -> Tensor:
    """A coarse flow at places that lie `at` [pixels] from its own."""
    rows, columns = flow.shape[-2:]
    y, x = (torch.arange(k, dtype=flow.dtype, device=flow.device) for k in (rows, columns))
    at_x = (2 * (x + at[:, 0] / GRID) + 1) / columns - 1
    at_y = (2 * (y[:, None] + at[:, 1] / GRID) + 1) / rows - 1
    return functional.grid_sample(
        flow, torch.stack([at_x, at_y], -1), padding_mode="border", align_corners=False
    )

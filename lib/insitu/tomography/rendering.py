"""A volume of two metals as one sees it: the lighter one as glass, the heavier one inside it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from insitu import InputError, checks
from insitu.tomography.alloying import gold_share

SILVER, GOLD = np.array((0.66, 0.71, 0.78)), np.array((1.0, 0.70, 0.10))
LIGHT = np.array((-0.7, -0.6, -0.4))  # towards it, along the line of sight, z and x
GLASS, DENSE = 0.22, 10.0  # opacity of the surface; of pure gold over the field's width


def rendered(
    volume: ArrayLike, *, contrast: float, turn: float = 0.0, tip: float = 20.0, pixels: int = 128
) -> NDArray[np.float64]:
    """Draw a volume in colour: its surface like glass, gold inside it the denser the more it is.

    Rays go straight through. At the surface, where the intensity is half of that of the lighter
    metal, a little light is taken, the more the steeper the surface stands to the ray, and shaded
    by how it faces the lamp [1]_; inside, the share of the heavier metal takes light like a dye.

    Parameters
    ----------
    volume : (z, y, x) array
        Of equal sides, y along the beam at zero tilt; the lighter metal has the intensity 1.
    contrast : float
        Intensity of the heavier metal, above 1.
    turn, tip : float
        By which it is turned about z, and tipped towards the viewer [degrees].
    pixels : int
        Rows and columns of the picture.

    Returns
    -------
    (pixels, pixels, 3) array
        Red, green and blue from 0 to 1, on white.

    Raises
    ------
    InputError
        If the volume has unequal sides, or the contrast is not above 1.

    References
    ----------
    .. [1] M. Levoy, Display of surfaces from volume data, IEEE Comput. Graph. Appl. 8 (1988) 29.

    Examples
    --------
    >>> import numpy as np
    >>> rendered(np.zeros((8, 8, 8)), contrast=2.4, pixels=4).min()
    np.float64(1.0)
    """
    values = np.asarray(volume, np.float32)
    if values.ndim != 3 or len({*values.shape}) != 1:
        raise InputError(f"volume: expected (z, y, x) of equal sides, got shape {values.shape}")
    if not contrast > 1:
        raise InputError(f"contrast: got {contrast}; allowed is more than 1")
    checks.within("pixels", pixels, 2, 2000)
    seen = _turned(ndimage.gaussian_filter(values, 0.7), turn, tip, pixels)
    slopes = np.gradient(seen)  # along the line of sight, z and x
    steep = np.sqrt(sum(slope**2 for slope in slopes)) + np.float32(1e-6)
    lamp = (LIGHT / np.linalg.norm(LIGHT)).astype(np.float32)
    facing = -sum(s * toward for s, toward in zip(slopes, lamp, strict=True)) / steep
    near = np.clip(1 - np.abs(seen - 0.5) / (1.5 * steep), 0, 1) * (steep > 0.01)
    glass = near * (1 - 0.6 * np.abs(slopes[0]) / steep) * GLASS  # seen best at its rim
    share = np.clip(gold_share(seen, contrast=contrast), 0, 1)
    dye = 1 - np.exp(-DENSE / pixels * share)
    shine = 0.55 + 0.45 * facing + 0.6 * np.clip(facing, 0, 1) ** 12
    shade = 0.75 + 0.25 * facing * np.clip(steep * pixels / 20, 0, 1)
    picture, left = np.zeros((pixels, pixels, 3)), np.ones((pixels, pixels, 1))
    for k in range(pixels):  # from the front to the back
        for opacity, colour, light in ((glass, SILVER, shine), (dye, GOLD, shade)):
            taken = left * opacity[k, ..., None]
            picture += taken * np.clip(colour * light[k, ..., None], 0, 1)
            left = left - taken
    return np.clip(picture + left, 0, 1)


def _turned(
    values: NDArray[np.float32], turn: float, tip: float, pixels: int
) -> NDArray[np.float32]:
    """Sample a volume on the rays of a viewer, (along the ray, rows, columns)."""
    a, b = np.deg2rad((turn, tip))
    about_z = np.array(((1, 0, 0), (0, np.cos(a), -np.sin(a)), (0, np.sin(a), np.cos(a))))
    about_x = np.array(((np.cos(b), -np.sin(b), 0), (np.sin(b), np.cos(b), 0), (0, 0, 1)))
    rays_first = np.array(((0, 1, 0), (1, 0, 0), (0, 0, 1)))
    matrix = about_z @ about_x @ rays_first * len(values) / pixels
    middle = (len(values) - 1) / 2 - matrix @ np.full(3, (pixels - 1) / 2)
    shape = (pixels,) * 3
    seen = ndimage.affine_transform(values, matrix, middle, output_shape=shape, order=1)
    return np.asarray(seen, np.float32)

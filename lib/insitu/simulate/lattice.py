"""The lattices of platinum and ceria in the frame of the images, and columns of sites.

x runs along [11-2] of both crystals, the height along [111], and z along the beam, [1-10].
"""

from __future__ import annotations

from collections.abc import Mapping

import ase.build
import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[np.float64]

PT, CEO2 = 3.92, 5.411  # lattice parameters [A]
NEIGHBOUR = PT / np.sqrt(2)  # distance of nearest neighbours in platinum [A]
# rows: x, the surface normal and the beam, in the axes of the cube
FRAME = np.array([[1, 1, -2], [1, 1, 1], [1, -1, 0]]) / np.sqrt([[6], [3], [2]])
OCTAHEDRON = [(i, j, k) for i in (1, -1) for j in (1, -1) for k in (1, -1)]  # {111}
CUBE = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0), (0, -1, 0), (0, 0, -1)]  # {100}


def oriented(name: str, parameter: float) -> Atoms:
    """One orthogonal cell of Pt or CeO2 with [11-2], [111] and [1-10] along x, y and z."""
    kind = {"Pt": "fcc", "CeO2": "fluorite"}[name]
    cell = ase.build.cut(
        ase.build.bulk(name, kind, a=parameter, cubic=True),
        a=(0.5, -0.5, 0),
        b=(0.5, 0.5, -1),
        c=(1, 1, 1),
    )
    return Atoms(
        cell.get_chemical_symbols(),
        scaled_positions=cell.get_scaled_positions()[:, [1, 2, 0]],
        cell=cell.cell.lengths()[[1, 2, 0]],
    )


def lattice(width: float, origin: Array) -> Array:
    """Sites of the platinum lattice as (n, 3) of x, height and z, within `width` of the origin."""
    reach = int(np.ceil(2 * width / PT)) + 2
    index = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1)
    index = index.reshape(-1, 3)[index.sum(-1).ravel() % 2 == 0]
    sites = (index * PT / 2 - origin) @ FRAME.T
    return sites[(np.abs(sites) < width).all(1)]


def inside_facets(sites: Array, facets: Mapping[tuple[int, int, int], float]) -> NDArray[np.bool_]:
    """Which sites lie inside a polyhedron of facets: normal in cubic axes, distance [A]."""
    normals = np.array(list(facets), dtype=float)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return (sites @ FRAME @ normals.T <= np.array(list(facets.values())) + 1e-6).all(1)


def neighbours(sites: Array, occupied: Array) -> NDArray[np.int64]:
    """Count the occupied sites that are nearest neighbours of each site."""
    near = cKDTree(occupied).query_ball_point(sites, NEIGHBOUR + 0.1, return_length=True)
    self_too = cKDTree(occupied).query_ball_point(sites, 0.1, return_length=True)
    return np.asarray(near - self_too)


def columns_of(projected: Array) -> NDArray[np.int64]:
    """Number the columns of atoms whose (n, 2) projections are equal within 0.1 A."""
    order = np.round(projected / 0.2).astype(int)
    tree = cKDTree(projected)
    first = np.full(len(projected), -1)
    count = 0
    for index in np.lexsort(order.T):
        if first[index] < 0:
            first[tree.query_ball_point(projected[index], 0.1)] = count
            count += 1
    return first

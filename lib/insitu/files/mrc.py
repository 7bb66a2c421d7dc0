"""MRC: every mode, either byte order, signed bytes or not, and electrons packed in 4 bits.

https://www.ccpem.ac.uk/mrc_format/mrc2014.php; IMOD's additions:
https://bio3d.colorado.edu/imod/doc/mrc_format.txt
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import NDArray

from insitu import InputError
from insitu.files.axes import Axis, Mapped, Stored, longer

_MODES = {0: "u1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 7: "i4", 12: "f2", 16: "u1", 101: "u1"}
_IMOD = 1146047817  # the stamp of files whose flags say how bytes are meant
_SIGNED, _PACKED = 1, 16  # flags of IMOD
_FEI = 131072  # bytes of FEI's first extended header: 1024 records of 128 bytes
_HEADER = 1024


def looks_like_mrc(head: bytes) -> bool:
    """Whether the first 1024 bytes of a file are such a header."""
    return len(head) >= _HEADER and _byte_order(head) is not None


def _byte_order(head: bytes) -> Literal["<", ">"] | None:
    """The one in which mode, size and axes make sense; the stamp is missing in old files."""
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders:
        nx, ny, nz, mode = np.frombuffer(head, f"{order}i4", 4)
        axes = sorted(np.frombuffer(head, f"{order}i4", 3, 64))
        known = axes in ([1, 2, 3], [0, 0, 0]) or head[208:211] == b"MAP"
        if mode in (*_MODES, 3) and min(nx, ny, nz) > 0 and max(nx, ny) < 1 << 20 and known:
            return order
    return None


def read(path: Path) -> list[Stored]:
    """Read an MRC file.

    Raises
    ------
    InputError
        If it is truncated, of a mode that holds no intensities, or its bytes may be meant as
        signed and as unsigned.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER)
    order = _byte_order(head) if len(head) == _HEADER else None
    if order is None:
        raise InputError(f"{path.name} cannot be read as .mrc: it has no such header")
    header = np.frombuffer(head, HEADER_DTYPE.newbyteorder(order))[0]
    nx, ny, nz, mode = (int(header[key]) for key in ("nx", "ny", "nz", "mode"))
    if mode not in _MODES:
        raise InputError(f"{path.name}: mode {mode} of mrc holds no intensities; give the images")
    stamp, flags = (int(n) for n in np.frombuffer(head, f"{order}i4", 2, 152))
    packed = mode == 101 or (mode == 0 and stamp == _IMOD and bool(flags & _PACKED))
    if packed and mode == 0:
        nx *= 2  # a byte is one column of the header
    row = (nx + 1) // 2 if packed else nx * (3 if mode == 16 else 1)
    kind = np.dtype(_MODES[mode]).newbyteorder(order)
    begin = _HEADER + max(0, int(header["nsymbt"]))
    expected = begin + nz * ny * row * kind.itemsize
    if expected > path.stat().st_size:
        raise InputError(
            f"{path.name} cannot be read as .mrc: it is truncated, {nz} frames of {ny} x {nx} "
            f"pixels are {expected} bytes and it is {path.stat().st_size} bytes long; copy the "
            "file again"
        )
    shape = (nz, ny, nx, 3) if mode == 16 else (nz, ny, row)
    data: Any = Mapped(path, kind, begin, shape)
    if packed:
        data = _unpacked(data, nx)
    elif mode == 0:
        signed = _signed(stamp, flags, float(header["dmin"]), float(header["dmax"]))
        data = Mapped(path, np.int8, begin, shape) if signed else data
        data = _same_in_both(data) if signed is None else data
    axes = [Axis("z"), Axis("y"), Axis("x")] + [Axis("rgb")] * (mode == 16)
    with path.open("rb") as file:
        file.seek(_HEADER)
        fei = file.read(_FEI) if int(header["nsymbt"]) == _FEI else b""
    size, angles = _of_fei(fei, order, nz) if fei and stamp != _IMOD else (None, None)
    halved = 2 if packed and mode == 0 else 1
    size = size or (_cell(header, "y"), _cell(header, "x") / halved)
    # 1 A is what programs write that know of no size: a cell of as many angstrom as pixels
    good = all(np.isfinite(s) and s > 0 for s in size) and size != (1.0, 1.0)
    notes = longer(path, expected, ny * row * kind.itemsize)
    return [Stored(data, axes, pixel_size=size if good else None, angles=angles, notes=notes)]


def _cell(header: Any, axis: str) -> float:
    """Size of a pixel [A], also if it is negative in the header."""
    samples = int(header[f"m{axis}"])
    return abs(float(header["cella"][axis])) / samples if samples > 0 else 0.0


def _of_fei(
    block: bytes, order: str, frames: int
) -> tuple[tuple[float, float] | None, NDArray[np.float64] | None]:
    """Pixel size [A] and tilt angles of FEI's first extended header, if it is one."""
    records = np.frombuffer(block, f"{order}f4").reshape(-1, 32)
    metres = float(records[0, 11])
    if not 1e-13 < metres < 1e-4:
        return None, None
    angles = records[:frames, 0].astype(np.float64)
    tilted = np.isfinite(angles).all() and np.ptp(angles) > 0 and abs(angles).max() <= 180
    return (metres * 1e10,) * 2, angles if tilted else None


def _unpacked(data: Any, columns: int) -> Any:
    """Two electrons' counts a byte, the low nibble first."""
    import dask.array as da

    def unpack(block: NDArray[np.uint8]) -> NDArray[np.uint8]:
        pairs = np.stack([block & 15, block >> 4], -1).reshape(*block.shape[:2], -1)
        return pairs[..., :columns]

    _, y, row = data.shape
    blocks = da.from_array(data, (max(1, (1 << 23) // (y * row)), y, row), name=False)
    return blocks.map_blocks(unpack, chunks=(*blocks.chunks[:2], (columns,)), dtype=np.uint8)


def _signed(stamp: int, flags: int, low: float, high: float) -> bool | None:
    """Whether bytes have a sign: by IMOD's flag, else by the least and largest of the header.

    None where neither tells.
    """
    if stamp == _IMOD:
        return bool(flags & _SIGNED)
    if low < 0 and high <= 127:
        return True
    if 0 <= low <= high and 127 < high <= 255:
        return False
    return None


def _same_in_both(data: Mapped) -> Any:
    """Bytes below 128, which mean the same with and without a sign; others are refused."""
    import dask.array as da

    _, y, x = data.shape
    blocks = da.from_array(data, (max(1, (1 << 23) // (y * x)), y, x), name=False)
    _refuse_large(data[:1])
    return blocks.map_blocks(_refuse_large, dtype=np.uint8)


def _refuse_large(block: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if block.size and block.max() > 127:
        raise InputError(
            f"its bytes may be unsigned, up to {block.max()}, or signed, from "
            f"{block.astype(np.int8).min()}, and the header does not tell; save it as 16-bit "
            "integers (mode 1 or 6), in ImageJ or by newstack -mode 6"
        )
    return block

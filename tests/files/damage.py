"""Good files of many formats, and what disks and people do to them."""

import h5py
import numpy as np
import tifffile
import writers
import zarr
from PIL import Image

MOVIE = np.random.default_rng(0).poisson(0.8, (12, 48, 64)).astype(np.uint8)


def right(path):
    """The counts of a good file: those of a .gif are brighter, to be seen."""
    return MOVIE * 20 if path.suffix == ".gif" else MOVIE


def plain_files(folder):
    """One good file of each format."""
    dm = [{"data": MOVIE, "scales": (0.02, 0.012, 0.012), "units": ("s", "nm", "nm")}]
    tifffile.imwrite(folder / "plain.tif", MOVIE)
    tifffile.imwrite(folder / "deflate.tif", MOVIE, compression="zlib")
    tifffile.imwrite(folder / "tiled.tif", MOVIE, tile=(16, 16), compression="zlib")
    tifffile.imwrite(folder / "imagej.tif", MOVIE, imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(folder / "ome.tif", MOVIE, ome=True, metadata={"axes": "TYX"})
    for piece in range(0, 12, 6):
        tifffile.imwrite(folder / "pieces.tif", MOVIE[piece : piece + 6], append=True)
    writers.write_mrc(folder / "short.mrc", MOVIE.astype(np.int16), 1)
    writers.write_mrc(folder / "bytes.mrc", MOVIE, 0, flags=0)
    writers.write_mrc(folder / "packed.mrc", writers.packed(MOVIE), 101, shape=MOVIE.shape)
    writers.write_dm(folder / "a.dm3", dm, version=3)
    writers.write_dm(folder / "a.dm4", dm, version=4)
    writers.write_velox(folder / "velox.emd", MOVIE.astype(np.uint16), metres=1e-11, seconds=0.1)
    np.save(folder / "a.npy", MOVIE)
    np.savez_compressed(folder / "a.npz", movie=MOVIE)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("movie", data=MOVIE, chunks=(1, 48, 64), compression="gzip")
    with zarr.storage.ZipStore(folder / "a.zarr.zip", mode="w") as store:
        zarr.create_array(store, data=MOVIE)
    frames = [Image.fromarray(frame) for frame in MOVIE * 20]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:], duration=20)
    return sorted(folder.iterdir())


def damaged(good, folder, number, rng):
    """A cut, flipped or renamed copy."""
    raw = bytearray(good.read_bytes())
    how = ("cut", "flipped", "renamed")[number % 3]
    ending = good.suffix
    if how == "cut":
        raw = raw[: int(len(raw) * rng.uniform(0.02, 0.98))]
    elif how == "flipped":
        for _ in range(rng.integers(1, 9)):
            raw[rng.integers(0, min(1024, len(raw)))] ^= 1 << rng.integers(0, 8)
    else:
        ending = str(rng.choice([".tif", ".mrc", ".npy", ".dm4", ".hspy", ".gif", ".raw", ""]))
    path = folder / f"{number:03d}-{how}-{good.stem}{ending}"
    path.write_bytes(raw)
    return how, path

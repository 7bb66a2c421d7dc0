"""Which reader a file needs, by what it holds; and pieces of one movie joined.

A file is known by its first bytes, so that a wrong ending does no harm; where these say nothing,
by its ending.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from insitu import InputError
from insitu.files.axes import Frames, Stored, frames_of, with_notes

_VIDEO = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".wmv", ".m4v")
_PICTURES = (".png", ".gif", ".bmp", ".jpg", ".jpeg", ".pgm", ".ppm")
_MRC = (".mrc", ".mrcs", ".map", ".st", ".ali", ".rec", ".preali")
_MAGIC = (  # first bytes, the reader, and endings that go with them
    (b"II*\0", "tif", (".tif", ".tiff", ".eer", ".lsm", ".btf", ".tf8")),
    (b"MM\0*", "tif", (".tif", ".tiff", ".eer", ".lsm", ".btf", ".tf8")),
    (b"II+\0", "tif", (".tif", ".tiff", ".eer", ".btf", ".tf8")),
    (b"MM\0+", "tif", (".tif", ".tiff", ".eer", ".btf", ".tf8")),
    (b"\x93NUMPY", "numpy", (".npy",)),
    (b"\x89HDF\r\n", "hdf5", (".hspy", ".hdf5", ".h5", ".emd", ".de5", ".nxs", ".hdf")),
    (b"\x89PNG", "picture", (".png",)),
    (b"GIF8", "picture", (".gif",)),
    (b"BM", "picture", (".bmp",)),
    (b"\xff\xd8\xff", "picture", (".jpg", ".jpeg")),
    (b"\0\0\0\x03", "DigitalMicrograph", (".dm3",)),
    (b"\0\0\0\x04", "DigitalMicrograph", (".dm4",)),
    (b"II\x97\x01", "TIA", (".ser",)),
    (b"MQ1,", "QuantumDetector", (".mib",)),
    (b"PK\x03\x04", "zip", (".zip", ".npz", ".zspy", ".zarr", ".prz")),
)
_SMALLEST = 8  # pixels across a frame; other arrays are tables
_BY_ENDING = {
    **dict.fromkeys((".tif", ".tiff", ".eer"), "tif"),
    **dict.fromkeys((".npy", ".npz"), "numpy"),
    **dict.fromkeys((".hspy", ".hdf5", ".h5", ".emd", ".de5", ".nxs"), "hdf5"),
    **dict.fromkeys(_PICTURES, "picture"),
    **dict.fromkeys(_MRC, "mrc"),
    **dict.fromkeys((".gtg", ".seq"), "libertem"),
}


def read(path: Path) -> Frames:
    """Read a file or a folder as frames.

    Raises
    ------
    InputError
        In one sentence, if it cannot be read as a movie.
    """
    from insitu.files import folders, hdf

    if path.is_dir():
        if hdf.is_zarr(path):
            return together(hdf.read_zarr(path), join=False)
        return folders.read(path)
    kind, misnamed = kind_of(path)
    frames = together(_reader(kind)(path), join=kind == "tif")
    if misnamed:
        return with_notes(frames, f"it is read as what it holds, {kind}, in spite of its ending")
    return frames


def kind_of(path: Path) -> tuple[str, bool]:
    """The reader of a file, and whether its ending is of another one.

    Raises
    ------
    InputError
        If it is a video, or packed.
    """
    from insitu.files.mrc import looks_like_mrc

    with path.open("rb") as file:
        head = file.read(1024)
    ending = path.suffix.lower()
    for magic, kind, endings in _MAGIC:
        if head.startswith(magic) and (magic != b"BM" or ending == ".bmp"):
            if kind == "zip":
                kind = {".npz": "numpy", ".prz": "rosetta"}.get(ending, "zarr")
            if kind == "DigitalMicrograph" and ending not in endings and head[12:16] not in _TAGS:
                break
            return kind, bool(ending) and ending not in endings
    known = _BY_ENDING.get(ending, "")
    if known != "mrc" and looks_like_mrc(head) and head[208:211] == b"MAP":
        return "mrc", True
    if head[:2] == b"\x1f\x8b" or head[:3] == b"BZh":
        raise InputError(f"{path.name} is packed by gzip or bzip2; unpack it first")
    if ending in _VIDEO:
        raise InputError(
            f"{path.name} cannot be read as {ending}: a video is made for the eye and holds no "
            "counts; export the frames as .tif, .mrc or .dm4"
        )
    if ending == ".bin" and head[:4] == b"\xff\xff\0\x55":
        return "libertem", False
    return known or "rosetta", False


_TAGS = (b"\0\0\0\x01", b"\0\0\0\0")  # the byte orders of a .dm4


def _reader(kind: str) -> Callable[[Path], list[Stored]]:
    from insitu.files import hdf, mrc, others, tif

    readers: dict[str, Callable[[Path], list[Stored]]] = {
        "tif": tif.read,
        "mrc": mrc.read,
        "numpy": others.numpy_file,
        "hdf5": hdf.read_hdf5,
        "zarr": hdf.read_zarr,
        "picture": others.picture,
        "libertem": others.libertem,
        "rosetta": others.rosetta,
    }
    return readers.get(kind) or (lambda path: others.rosetta(path, kind))


def together(stored: list[Stored], *, join: bool) -> Frames:
    """Frames of the pieces that belong together; what is left out is named.

    Pieces belong together if they have frames of one size and one type. Of several such families
    that with the most frames is taken, then that with the largest; if they are not pieces of one
    movie but several recordings (`join` is false), the longest one.

    Raises
    ------
    InputError
        If there are none, or no piece can be a movie.
    """
    if not stored:
        raise InputError("it holds no image and no movie")
    good: list[tuple[Stored, Frames]] = []
    reasons: list[InputError] = []
    for one in stored:
        try:
            good.append((one, frames_of(one)))
        except InputError as reason:
            reasons.append(reason)
    if not good:
        raise reasons[0]
    counts: Counter[tuple[object, ...]] = Counter()
    for _, frames in good:
        counts[_family(frames)] += len(frames.data) * (min(frames.data.shape[1:]) >= _SMALLEST)
    of_one = {_family(f): f.data.shape[1] * f.data.shape[2] for _, f in good}
    best = max(counts, key=lambda key: (counts[key], of_one[key]))
    family = [(s, f) for s, f in good if _family(f) == best]
    if not join:
        family = [max(family, key=lambda pair: len(pair[1].data))]
    taken = [f for _, f in family]
    left = [_in_words(s, f) for s, f in good if all(f is not t for t in taken)]
    left += [str(reason) for reason in reasons]
    first, lengths = taken[0], [len(f.data) for f in taken]
    if len(taken) > 1:
        import dask.array as da

        first = Frames(
            da.concatenate([f.data for f in taken]), first.size, first.frame_time, None, first.notes
        )
    if not left and (len(set(lengths[:-1])) <= 1 and lengths[-1] <= lengths[0]):
        return first  # as a camera writes it
    count = len(first.data)
    words = f"{count} frames of {first.data.shape[1]} x {first.data.shape[2]} pixels were taken"
    if len(taken) > 1:
        words += f", of {len(taken)} pieces of {min(lengths)} to {max(lengths)}"
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        words += f"; left out: {', '.join(left[:5])}{more}"
    return with_notes(first, words)


def _family(frames: Frames) -> tuple[object, ...]:
    return (*frames.data.shape[1:], frames.data.dtype)


def _in_words(stored: Stored, frames: Frames) -> str:
    t, y, x = frames.data.shape
    name = f" {stored.title}" if stored.title else ""
    what = f"{t} frames" if t > 1 else "an image"
    return f"{what} of {y} x {x} pixels, {frames.data.dtype}{name}"

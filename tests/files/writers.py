"""Files that no library writes, made on the fly: dm3 and dm4, mrc with any header, EER, Velox."""

import json
import struct

import h5py
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

DM_TYPES = {"u1": 6, "i1": 9, "i2": 1, "u2": 10, "i4": 7, "u4": 11, "f4": 2, "f8": 12}
TAG_TYPES = {"i2": 2, "i4": 3, "u2": 4, "u4": 5, "f4": 6, "f8": 7, "i1": 9, "u1": 10}


def write_dm(path, images, *, version=3):
    """Images of a Digital Micrograph file: dicts of data, scales, units (in array order), name."""
    long = ">I" if version == 3 else ">Q"

    def group(entries):
        body = b"\1\0" + struct.pack(long, len(entries))
        return body + b"".join(tag(name, value) for name, value in entries)

    def tag(name, value):
        code = b"\x14" if isinstance(value, list) else b"\x15"
        body = group(value) if isinstance(value, list) else data(value)
        size = b"" if version == 3 else struct.pack(">Q", len(body))
        return code + struct.pack(">H", len(name)) + name.encode() + size + body

    def data(value):
        if isinstance(value, str):
            value = np.frombuffer(value.encode("utf-16-le"), "u2")
        if isinstance(value, np.ndarray):
            info = [20, TAG_TYPES[value.dtype.str[1:]], value.size]
            raw = value.tobytes()
        else:
            kind = "i4" if isinstance(value, int) else "f4"
            info, raw = [TAG_TYPES[kind]], np.array(value, f"<{kind}").tobytes()
        return (
            b"%%%%"
            + struct.pack(long, len(info))
            + struct.pack(f">{len(info)}{long[1]}", *info)
            + raw
        )

    def image(one):
        array = np.asarray(one["data"])
        units = one.get("units", [""] * array.ndim)[::-1]  # x comes first
        scales = one.get("scales", [1.0] * array.ndim)[::-1]
        dimension = [
            ("", [("Origin", 0.0), ("Scale", float(s)), ("Units", u)])
            for s, u in zip(scales, units, strict=True)
        ]
        brightness = [
            ("Origin", 0.0),
            ("Scale", one.get("gain", 1.0)),
            ("Units", one.get("counts", "")),
        ]
        calibrations = [("Brightness", brightness), ("Dimension", dimension)]
        return [
            (
                "ImageData",
                [
                    ("Calibrations", calibrations),
                    ("Data", array.ravel()),
                    ("DataType", DM_TYPES[array.dtype.str[1:]]),
                    ("Dimensions", [("", int(n)) for n in array.shape[::-1]]),
                    ("PixelDepth", array.itemsize),
                ],
            ),
            ("ImageTags", [("Acquisition", [("Device", "camera")])]),
            ("Name", one.get("name", "movie")),
        ]

    body = group([("ImageList", [("", image(one)) for one in images])])
    path.write_bytes(
        struct.pack(">I", version)
        + struct.pack(long, len(body))
        + struct.pack(">I", 1)
        + body
        + b"\0" * 8
    )


def write_mrc(path, array, mode, **told):
    """An mrc of an array as it is to be stored; told: order, stamp, flags, least, largest, ..."""
    order = told.get("order", "<")
    nz, ny, nx = told.get("shape", array.shape)
    header = np.zeros(1, HEADER_DTYPE.newbyteorder(order))
    for key, value in {"nx": nx, "ny": ny, "nz": nz, "mx": nx, "my": ny, "mz": nz}.items():
        header[key] = value
    header["mode"], header["mapc"], header["mapr"], header["maps"] = mode, 1, 2, 3
    size = told.get("pixel_size", (0.12, 0.12))
    header["cella"]["y"], header["cella"]["x"] = size[0] * ny, size[1] * nx
    header["dmin"], header["dmax"] = told.get("range", (0, 0))
    if not told.get("old"):
        header["map"] = b"MAP "
        header["machst"] = [0x44, 0x44, 0, 0] if order == "<" else [0x11, 0x11, 0, 0]
    raw = bytearray(header.tobytes())
    if "flags" in told:
        raw[152:160] = np.array([1146047817, told["flags"]], f"{order}i4").tobytes()
    path.write_bytes(bytes(raw) + array.astype(array.dtype.newbyteorder(order)).tobytes())


def packed(array):
    """Two pixels a byte, the first in the low nibble, and a row in whole bytes."""
    even = np.pad(array, ((0, 0), (0, 0), (0, array.shape[2] % 2)))
    return (even[..., ::2] | even[..., 1::2] << 4).astype(np.uint8)


def write_velox(path, frames, *, metres, seconds):
    """As Velox writes a movie of a camera: (y, x, frame), and what it knows in bytes of JSON."""
    about = {
        "Core": {"MetadataDefinitionVersion": "7.9", "MetadataSchemaVersion": "v1/2013/07"},
        "BinaryResult": {
            "PixelSize": {"width": str(metres), "height": str(metres)},
            "PixelUnitX": "m",
            "PixelUnitY": "m",
            "Offset": {"x": "0", "y": "0"},
            "Detector": "BM-Ceta",
            "DetectorIndex": "0",
        },
        "Detectors": {"Detector-0": {"DetectorName": "BM-Ceta", "ExposureTime": str(seconds)}},
        "Scan": {"FrameTime": str(seconds)},
        "Instrument": {"InstrumentModel": "none"},
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1500000000"}, "SourceType": "X"},
        "Optics": {"AccelerationVoltage": "300000"},
        "Stage": {"Position": {"x": "0", "y": "0", "z": "0"}, "AlphaTilt": "0", "BetaTilt": "0"},
        "CustomProperties": {},
        "Sample": {},
    }
    raw = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with h5py.File(path, "w") as file:
        image = file.create_group("Data/Image/0123456789abcdef0123456789abcdef")
        stack = frames.transpose(1, 2, 0)
        image.create_dataset("Data", data=stack, chunks=(*stack.shape[:2], 1))
        image.create_dataset("Metadata", data=np.repeat(raw[:, None], len(frames), 1))
        file.create_dataset("Version", data=[b'{"format": "Velox", "version": "1.0"}'])
        file.create_group("Operations")
        file.create_group("Info")


def write_eer(path, frames, *, metres=1.2e-11):
    """As a Falcon camera writes it: a BigTIFF, each electron a run of 7 bits and 4 of its place."""
    about = (
        f'<metadata><item name="sensorPixelSize.width" unit="m">{metres}</item>'
        f'<item name="sensorPixelSize.height" unit="m">{metres}</item></metadata>'
    ).encode()
    out = bytearray(b"II+\0\x08\0\0\0" + b"\0" * 8)
    pointer = 8  # where the place of the next directory is to be written
    for frame in frames:
        strip = _electrons(frame)
        where, out = len(out), out + strip
        xml, out = len(out), out + about
        out[pointer : pointer + 8] = struct.pack("<Q", len(out))
        tags = [
            (256, 4, 1, frame.shape[1]),
            (257, 4, 1, frame.shape[0]),
            (258, 3, 1, 1),
            (259, 3, 1, 65001),
            (262, 3, 1, 1),
            (273, 16, 1, where),
            (277, 3, 1, 1),
            (278, 4, 1, frame.shape[0]),
            (279, 16, 1, len(strip)),
            (65001, 7, len(about), xml),
        ]
        out += struct.pack("<Q", len(tags)) + b"".join(struct.pack("<HHQQ", *t) for t in tags)
        pointer = len(out)
        out += b"\0" * 8
    path.write_bytes(out)


def _electrons(frame):
    bits = []
    last = -1
    for place in [*np.flatnonzero(frame), frame.size]:
        run = int(place) - last - 1
        while run >= 127:
            bits += [1] * 7
            run -= 127
        bits += [run >> n & 1 for n in range(7)] + [0] * 4
        last = int(place)
    raw = np.packbits(bits, bitorder="little").tobytes()
    return raw + b"\0" * (-len(raw) % 8)


def write_mib(path, frames):
    """As a Merlin camera writes it: a head of text and rows from the bottom, a frame at a time."""
    out = bytearray()
    for number, frame in enumerate(frames):
        rows, columns = frame.shape
        head = ["MQ1", f"{number + 1:06d}", "00384", "01", f"{columns:04d}", f"{rows:04d}", "U08"]
        head += ["   1x1", "01", "2020-05-18 16:51:49.971626", "0.000555", *["0"] * 60, "MQ1A"]
        head += ["2020-05-18T14:51:49.971626178Z", "555000ns", "6", "0"]
        out += ",".join(head).encode().ljust(384) + frame[::-1].tobytes()
    path.write_bytes(out)

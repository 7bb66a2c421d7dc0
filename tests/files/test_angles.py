"""Angles of a tilt series from a text file, however it writes numbers."""

import numpy as np
import pytest

from insitu import InputError
from insitu.files.angles import read_angles

ANGLES = np.array([-54.9719, -51.9702, -48.9755, -45.9701, -42.0712])
TIMES = np.array([0.0, 37.5, 75.25, 112.0, 150.0])


def lines(*columns, between=" ", point=".", head=""):
    """Text of some columns."""
    rows = [
        between.join(f"{v:.10g}".replace(".", point) for v in row)
        for row in zip(*columns, strict=True)
    ]
    return head + "\n".join(rows) + "\n"


COUNT = np.arange(5)
READ = {
    "points": (lines(ANGLES), None),
    "commas": (lines(ANGLES, point=","), None),
    "times": (lines(ANGLES, TIMES), TIMES),
    "times, comma": (lines(ANGLES, TIMES, between=","), TIMES),
    "times, comma and blank": (lines(ANGLES, TIMES, between=", "), TIMES),
    "times, semicolon": (lines(ANGLES, TIMES, between=";"), TIMES),
    "times, semicolon, commas": (lines(ANGLES, TIMES, between=";", point=","), TIMES),
    "times, semicolon and blank, commas": (lines(ANGLES, TIMES, between="; ", point=","), TIMES),
    "times, tab, commas": (lines(ANGLES, TIMES, between="\t", point=","), TIMES),
    "times, blanks, commas": (lines(ANGLES, TIMES, between="   ", point=","), TIMES),
    "numbers": (lines(COUNT, ANGLES), None),
    "numbers from 1": (lines(COUNT + 1, ANGLES), None),
    "numbers, tab, commas": (lines(COUNT, ANGLES, between="\t", point=","), None),
    "numbers, semicolon": (lines(COUNT + 1, ANGLES, between=";"), None),
    "numbers, comma": (lines(COUNT + 1, ANGLES, between=","), None),
    "numbers and times": (lines(COUNT, ANGLES, TIMES), TIMES),
    "heads": (lines(TIMES, ANGLES, between=",", head="time,angle\n"), TIMES),
    "heads with units": (lines(COUNT, ANGLES, between=";", head="frame;tilt angle (deg)\n"), None),
    "comment": ("# angle\n\n" + lines(ANGLES) + "\n\n", None),
    "quoted": ("\n".join(f'"{a}"'.replace(".", ",") for a in ANGLES), None),
    "degrees": ("\n".join(f"{a}°" for a in ANGLES), None),
    "minus": (lines(ANGLES).replace("-", "\u2212"), None),
    "windows": (lines(ANGLES, point=",").replace("\n", "\r\n"), None),
    "mdoc": (
        "\n".join(f"[ZValue = {n}]\nTiltAngle = {a}\nDefocus = 1" for n, a in enumerate(ANGLES)),
        None,
    ),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", READ)
def test_angles_are_angles(tmp_path, name, encoding):
    text, times = READ[name]
    (tmp_path / "a.tlt").write_bytes(text.encode(encoding))
    found = read_angles(tmp_path / "a.tlt")
    np.testing.assert_allclose(found.angles, ANGLES)
    if times is None:
        assert found.times is None
    else:
        np.testing.assert_allclose(found.times, times)


def test_whole_angles_and_times(tmp_path):
    """An even series of whole degrees with times is told from decimals by its steps."""
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{a},{t}\n" for t, a in enumerate(range(-60, 61, 2))))
    found = read_angles(path)
    np.testing.assert_array_equal(found.angles, np.arange(-60, 61, 2))
    np.testing.assert_array_equal(found.times, np.arange(61))


@pytest.mark.parametrize(
    "text",
    [
        "-60,0\n-58,1\n-56,2\n-54,3\n",  # times, or tenths of a degree
        "0 0\n1 2\n2 4\n3 6\n",  # numbers and angles, or angles and times
        "1;10\n2;20\n3;30\n",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError, match=r"tilt_angles: a\.txt can be read in two ways"):
        read_angles(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"minus ten\n", "an angle a line"),
        (b"", "no numbers"),
        (b"angle\n", "no numbers"),
        (b"1 2\n3\n", "lines hold 1 to 2 numbers"),
        (b"1 2 3 4\n" * 5, "4 columns"),
        (b"9 2 3\n8 4 5\n", "three columns"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "an angle a line"),
    ],
)
def test_what_is_no_table_of_angles(tmp_path, content, words):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=f"tilt_angles: a.txt .*{words}") as caught:
        read_angles(tmp_path / "a.txt")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="an angle a line"):
        read_angles(tmp_path / "none.tlt")

"""Damaged files: a right result or one sentence; a benchmark, files.py, has hundreds of them."""

import numpy as np
import pytest
from damage import damaged, plain_files, right

from insitu import InputError, files


def opened(path):
    """The frames, or the sentence."""
    try:
        return files.open_movie(path).part(), ""
    except InputError as sentence:
        return None, str(sentence)


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_right_or_refused_in_a_sentence(tmp_path):
    good, broken = tmp_path / "good", tmp_path / "broken"
    good.mkdir()
    broken.mkdir()
    rng = np.random.default_rng(3)
    seen = {"cut": 0, "flipped": 0, "renamed": 0}
    for number, source in enumerate(plain_files(good)):
        np.testing.assert_array_equal(files.open_movie(source).part(), right(source))
        for turn in range(3):
            how, path = damaged(source, broken, 3 * number + turn, rng)
            found, sentence = opened(path)
            if found is None:
                assert "\n" not in sentence
                assert path.name in sentence
                continue
            same = found.shape == right(source).shape and bool((found == right(source)).all())
            seen[how] += same
            assert same or how == "flipped", f"{path.name} was read as something else"
    assert seen["renamed"] >= 10
    assert seen["cut"] == 0

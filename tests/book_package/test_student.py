"""The book for a class: every exercise is there, no solution is, and the rest is as it was."""

import nbformat
import pytest

from insitu import InputError
from insitu.book import contents, student


@pytest.mark.parametrize("chapter", contents.chapters(), ids=lambda c: c.name)
def test_exercises_stay_and_solutions_go(chapter):
    page = nbformat.read(chapter.path, as_version=4)
    given = student.without_solutions(page)
    before, after = ("\n".join(c.source for c in p.cells) for p in (page, given))
    assert after.count("```{exercise}") == before.count("```{exercise}") >= 2
    assert after.count(student.ASKED) == before.count("{solution-start}")
    assert "{solution-" not in after
    assert not [c for c in given.cells if "solution" in c.metadata.get("tags", [])]
    assert "## Summary" in after
    nbformat.validate(given)


def test_a_folder_of_ones_own_is_not_replaced(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="name another"):
        student.write_student(tmp_path)
    assert (tmp_path / "mine.txt").is_file()

"""Numbers of a run are written into the text, and nothing else of it is touched."""

import nbformat
import pytest

from insitu.book import prose

TEXT = "It has 0<!--rest_db:.1f--> dB (0<!--share:.0%-->), −1.5<!--slope:+.1f-->; 0.46 is given."


def notebook(text):
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell("x = '0<!--a:g-->'")]
    return nbformat.v4.new_notebook(cells=cells)


def test_numbers_are_written_anew_each_time():
    page = notebook(TEXT)
    for rest, said in ((34.54, "34.5"), (-0.26, "\u22120.3"), (1e5, "100000.0")):
        prose.write_numbers(page, {"rest_db": rest, "share": 0.5, "slope": 2})
        assert page.cells[0].source == (
            f"It has {said}<!--rest_db:.1f--> dB (50%<!--share:.0%-->), +2.0<!--slope:+.1f-->; "
            "0.46 is given."
        )
    assert page.cells[1].source == "x = '0<!--a:g-->'"


def test_what_a_run_did_without_is_a_dash_and_comes_back():
    page = notebook(TEXT)
    prose.write_numbers(page, {})
    assert [n for n, _, _ in prose.numbers_in(page.cells[0].source)] == [prose.MISSING] * 3
    prose.write_numbers(page, {"rest_db": 1, "share": 1, "slope": 1})
    assert [n for n, _, _ in prose.numbers_in(page.cells[0].source)] == ["1.0", "100%", "+1.0"]


@pytest.mark.parametrize("value", [0.0, 3.2e-7, -12.345, 6e8, 0.999])
@pytest.mark.parametrize("form", ["g", ".2f", ".0%", ".1e", "+.3g", ""])
def test_whatever_is_written_is_found_again(value, form):
    text = f"a {prose.written(value, form)}<!--name:{form}--> b"
    ((number, _, _),) = prose.numbers_in(text)
    assert number == prose.written(value, form)


def test_other_pages_get_the_numbers_of_one_chapter(tmp_path):
    page = tmp_path / "claims.md"
    page.write_text(
        "0<!--05:rest:.1f-->, 7<!--06:rest:.1f-->, 3<!--05b:rest:g-->, 0<!--05:gone:g-->", "utf-8"
    )
    prose.write_elsewhere(tmp_path, "05", {"rest": 34.56})
    prose.write_elsewhere(tmp_path, "05b", {"rest": 4})
    said = "34.6<!--05:rest:.1f-->, 7<!--06:rest:.1f-->, 4<!--05b:rest:g-->, \u2013<!--05:gone:g-->"
    assert page.read_text("utf-8") == said
    assert [p.name for p in tmp_path.iterdir()] == ["claims.md"]

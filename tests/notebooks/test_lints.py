"""The contract of a page, held by each notebook."""

import ast
import re

import nbformat
import pytest
import yaml

from insitu import fetch
from insitu.book import freshness, parameters
from insitu.book.freshness import WIDGET_VIEW

NOTEBOOKS = sorted((fetch.ROOT / "notebooks").glob("*.ipynb"))

TAGS = {"parameters", "setup", "hide-input", "remove-input", "remove-cell", "colab", "solution"}


def tags(cell):
    return set(cell.metadata.get("tags", []))


def code(notebook):
    return [c for c in notebook.cells if c.cell_type == "code"]


def test_there_are_pages():
    assert NOTEBOOKS


def test_shape_of_a_page(page):
    path, notebook = page
    first, second = notebook.cells[:2]
    assert re.fullmatch(r"\d\d-[a-z0-9-]+", path.stem)
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert "?**" in first.source, "a page begins with its question, in bold"
    assert "parameters" in tags(second)
    setup = [c for c in code(notebook) if "setup" in tags(c)]
    assert len(setup) == 1
    assert f'chapter.start("{path.stem}", globals())' in setup[0].source
    assert code(notebook)[-1].source.find("page.finish(") > 0
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    for part in ("## Exercises", "## Summary", ":::{admonition} Where it goes wrong", "{cite}"):
        assert part in text, f"missing: {part}"
    assert len(re.findall(r"```\{exercise\}", text)) >= 2
    assert text.count("solution-start") == text.count("solution-end") >= 2


def test_parameters(page):
    _, notebook = page
    declared = parameters.parse_parameters(notebook.cells[1].source)
    assert declared["output_dir"].default == ""
    assert declared["device"].default == "auto"
    assert declared["seed"].default == 0
    for parameter in declared.values():
        parameter.check(parameter.default)
        assert "=" not in parameter.help
        if parameter.type in ("int", "float"):
            assert parameter.low is not None, f"{parameter.name}: no range"
    for line in notebook.cells[1].source.splitlines():
        assert line.count("#") == 1


def test_presets_name_chapters_and_parameters():
    for path in (fetch.ROOT / "notebooks" / "presets").glob("*.yml"):
        for name, values in yaml.safe_load(path.read_text()).items():
            notebook = nbformat.read(fetch.ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
            declared = parameters.parse_parameters(notebook.cells[1].source)
            for key, value in values.items():
                if (key, value) != ("device", "cuda"):
                    declared[key].check(value)


def test_cells(page):
    _, notebook = page
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert tags(cell) <= TAGS, f"unknown tags {tags(cell) - TAGS}"
        assert set(cell.metadata) <= {"tags"}
        if cell.cell_type == "code" and "colab" not in tags(cell):
            tree = ast.parse(cell.source)
            assert not any(isinstance(n, ast.ClassDef) for n in ast.walk(tree)), "a class"
            lines = cell.source.splitlines()
            if "parameters" not in tags(cell):
                assert max(map(len, lines)) <= 88, "a line is wider than the page"
            if not tags(cell) & {"hide-input", "remove-input"}:
                assert len(lines) <= 28, f"a long cell: {cell.source[:80]}"


def test_outputs(page):
    path, notebook = page
    assert path.stat().st_size < 3_500_000
    cells = [c for c in code(notebook) if "colab" not in tags(c)]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
            data = output.get("data", {})
            assert WIDGET_VIEW not in data
            if "image/png" in data:
                assert output.metadata["image/png"]["alt"]
    assert set(notebook.metadata) == {"kernelspec", "language_info", "insitu"}


def test_no_path_of_a_machine(page):
    path, _ = page
    text = re.sub(r"base64,[^\"\\]+|\"image/png\": \"[^\"]+\"", "", path.read_text())
    assert not re.findall(r"(?<![\w.:/])/(?:home|root|tmp|usr|work|Users|var)/\w+|[A-Z]:\\\\", text)


def test_pages_are_fresh(page):
    path, _ = page
    assert freshness.is_fresh(path), f"{path.stem} is stale: run `insitu refresh`"


def test_default_run_is_within_its_budget(page):
    """As measured when the page was run: three minutes, five where it trains, and 1.5 GB."""
    path, notebook = page
    stamp = notebook.metadata["insitu"]
    assert stamp["seconds"] < (300 if path.stem[:2] in ("05", "10") else 180)
    assert stamp["peak_memory_mb"] < 1500
    with pytest.raises(KeyError):
        stamp["papermill"]

"""The contract of a page: what CONTRIBUTING.md promises, one function for each part."""

import ast
import re

import nbformat
import papermill

from insitu.book import parameters, prose
from insitu.book.freshness import WIDGET_VIEW

TAGS = {"parameters", "setup", "hide-input", "remove-input", "remove-cell", "solution"}
HIDDEN = {"hide-input", "remove-input", "remove-cell"}
TRAINING = {"05", "10"}  # chapters that train with their default values
REFERENCE = 100.0  # Gflop/s of two cores, as `runs.processor_speed` measures it, of a laptop


def tags(cell):
    return set(cell.metadata.get("tags", []))


def code(notebook):
    return [c for c in notebook.cells if c.cell_type == "code"]


def shape(path, notebook):
    first, second = notebook.cells[:2]
    assert re.fullmatch(r"(\d\d[a-z]?|NN)-[a-z0-9-]+", path.stem)
    assert first.cell_type == "markdown"
    assert re.match(r"# .+\n+\*\*.+?\?\*\*", first.source), "a title, and a question in bold"
    assert "parameters" in tags(second)
    setup = [c for c in code(notebook) if "setup" in tags(c)]
    assert len(setup) == 1
    assert f'chapter.start("{path.stem}", globals())' in setup[0].source
    assert "page.finish(" in code(notebook)[-1].source
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    for part in (
        "## Exercises",
        "## Summary",
        ":::{admonition} Where it goes wrong",
        "bibliography.md#",
    ):
        assert part in text, f"missing: {part}"
    assert len(re.findall(r"```\{exercise\}", text)) >= 2
    assert text.count("solution-start") == text.count("solution-end") >= 2
    assert any("solution" in tags(c) for c in code(notebook))


def reads_alike(path, notebook):
    """No role that only the book's build understands; blocks of exercises have no other way."""
    del path
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    assert not re.findall(r"\{[a-z:]+\}`", text)


def declarations(path, notebook):
    declared = parameters.parse_parameters(notebook.cells[1].source)
    assert declared["output_dir"].default == ""
    assert declared["device"].default == "auto"
    assert declared["seed"].default == 0
    for parameter in declared.values():
        parameter.check(parameter.default)
        if parameter.type in ("int", "float"):
            assert parameter.span, f"{parameter.name}: no range"
    read = papermill.inspect_notebook(str(path))
    assert list(read) == list(declared), "papermill reads others"
    for name, parameter in declared.items():
        assert read[name]["inferred_type_name"] == parameter.type
        assert ast.literal_eval(read[name]["default"]) == parameter.default
        assert read[name]["help"].startswith(parameter.help)


def cells(path, notebook):
    del path
    nbformat.validate(notebook)
    hidden = lines_of_code = 0
    for cell in notebook.cells:
        assert tags(cell) <= TAGS, f"unknown tags {tags(cell) - TAGS}"
        assert set(cell.metadata) <= {"tags", "jupyter"}
        if cell.cell_type != "code" or "parameters" in tags(cell):
            continue
        tree = ast.parse(cell.source)
        assert not any(isinstance(n, ast.ClassDef) for n in ast.walk(tree)), "a class"
        lines = cell.source.splitlines()
        assert max(map(len, lines)) <= 88, "a line is wider than the page"
        most = 40 if tags(cell) & HIDDEN else 25
        assert len(lines) <= most, f"{len(lines)} lines in the cell {cell.source[:80]!r}"
        if "setup" not in tags(cell):
            hidden += len(lines) * bool(tags(cell) & HIDDEN)
            lines_of_code += len(lines)
    assert hidden <= 0.6 * lines_of_code, f"{hidden / lines_of_code:.0%} of the code is hidden"


def no_path_of_a_machine(path, notebook):
    del notebook
    text = re.sub(r"base64,[^\"\\]+|\"image/png\": \"[^\"]+\"", "", path.read_text())
    assert not re.findall(r"(?<![\w.:/])/(?:home|root|tmp|usr|work|Users|var)/\w+|[A-Z]:\\\\", text)


def outputs(path, notebook):
    assert path.stat().st_size <= 1.2 * 2**20
    numbers = [c.execution_count for c in code(notebook)]
    assert numbers == list(range(1, len(numbers) + 1))
    for cell in code(notebook):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
            data = output.get("data", {})
            assert WIDGET_VIEW not in data
            if "image/png" in data:
                assert output.metadata["image/png"]["alt"]
    assert set(notebook.metadata) == {"kernelspec", "language_info", "insitu"}


def numbers(path, notebook):
    """Numbers of the run in the text are those of the run that the page shows."""
    del path
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    agree(text, results_of(notebook))


def results_of(notebook):
    """The results that a page shows at its end, to six digits."""
    (last,) = [o.data["text/plain"] for o in code(notebook)[-1].outputs if "data" in o]
    return {name: float(value) for name, value in map(str.split, last.splitlines())}


def agree(text, results):
    """The numbers in a text are the results."""
    for number, name, form in prose.numbers_in(text):
        assert name in results, f"no result {name}"
        close = [prose.written(results[name] * k, form) for k in (1 - 1e-5, 1, 1 + 1e-5)]
        assert number in close, f"{name}: the text has {number}, the run {close[1]}"


def printed(path, notebook):
    """Units as they are printed, and no number that is none."""
    del path
    for cell in code(notebook):
        for output in cell.outputs:
            text = output.get("text", output.get("data", {}).get("text/plain", ""))
            assert not re.search(r"\bnan\b|e-/A|\[A\]|\d A\b(?! [a-z])", text), text


def budget(path, notebook):
    """Three minutes on a laptop, five where it trains, and 1.5 GB, as measured on two cores."""
    stamp = notebook.metadata["insitu"]
    assert set(stamp) == {
        "parameters",
        "device",
        "seconds",
        "peak_memory_mb",
        "peak_tree_mb",
        "versions",
        "data",
        "modules",
        "hash",
        "gflops",
    }
    assert stamp["device"] == "CPU, 2 cores"
    # not all of a page is convolutions: a faster processor does not make the rest faster
    seconds = stamp["seconds"] * min(1.0, stamp["gflops"] / REFERENCE)
    assert seconds < (300 if path.stem[:2] in TRAINING else 180)
    assert stamp["peak_memory_mb"] < 1500
    assert stamp["peak_tree_mb"] < 1900


WRITTEN = [
    shape,
    reads_alike,
    declarations,
    cells,
    no_path_of_a_machine,
]  # of a page as it is written
RUN = [outputs, numbers, printed, budget]  # of one that was run

"""The contract of a page: what CONTRIBUTING.md promises, one function for each part."""

import ast
import re

import nbformat
import papermill
from bs4 import BeautifulSoup

from insitu.book import parameters, prose, tiles

TAGS = {"parameters", "setup", "hide-input", "remove-input", "remove-cell", "check", "solution"}
HIDDEN = {"hide-input", "remove-input", "remove-cell"}
TRAINING = {"05", "10"}  # chapters that train with their default values
DRAWING = {"show", "show_panels", "scrubber", "particle_view", "sliders"}
LEVELS = {1.0, 2.0, 5.0, 10.0, 50.0, 68.0, 90.0, 95.0, 99.0}  # per cent that one asks for
_MEASURED = r"(?:\s?%|\s(?:dB|pm|nat|GB|MB)\b|\s(?:seconds?|minutes?|hours?|times)\b)"
_COUNTED = (
    r"(?:\s?°|\s(?:Å|nm|µm|mrad|kV|ms|s|e⁻(?:/Å²|/px)?|electrons?|atoms?|columns?|frames?|"
    r"pixels?|weights|steps|sites)(?![\w/]))"
)
_NUMBER = r"(?<![\w.,{/\-<])[-−+±]?\d[\d.,]*(?:\s?(?:to|±|and|×)\s?[-−+]?\d[\d.,]*)?"
UNPRINTED = re.compile(r"\bnan\b|e-/A|\[(?:1/)?A\]|A\$?\^2|A\$\^|\d A\b")
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


def captions(path, notebook):
    """Whatever draws says what is to be noticed."""
    del path
    for cell in code(notebook):
        for call in ast.walk(ast.parse(cell.source)):
            if isinstance(call, ast.Call):
                name = getattr(call.func, "attr", getattr(call.func, "id", ""))
                owner = getattr(getattr(call.func, "value", None), "id", "figures")
                if name in DRAWING and owner in ("figures", "sliders", "atoms"):
                    said = {k.arg: k.value for k in call.keywords}
                    assert "caption" in said, f"no caption: {ast.unparse(call)[:80]}"
                    assert len(ast.unparse(said["caption"]).split()) >= 6, "a caption of few words"


def folded_code_is_named(path, notebook):
    """The first line of a folded cell says what it does: the bar over it shows that line."""
    del path
    for cell in code(notebook):
        if "hide-input" in tags(cell):
            first = cell.source.partition("\n")[0]
            assert re.fullmatch(r"# \S+ \S.{4,66}", first), f"a folded cell begins with {first!r}"


def results_by_hand(path, notebook):
    """A number with a unit in the text is the run's, of a source that is cited, or explained.

    Numbers of a method may also be those of the page's code; what is measured may not. A number
    that is none of these says where it is from: `0.07 Å<!--from: the Debye-Waller factor-->`.
    """
    del path
    known = {
        abs(n.value)
        for c in code(notebook)
        for n in ast.walk(ast.parse(c.source))
        if isinstance(n, ast.Constant) and type(n.value) in (int, float)
    }
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert not (found := list(by_hand(cell.source, known))), found


def by_hand(text, known):
    """Numbers with a unit in a text that nothing accounts for."""
    text = re.sub(r"```+\{(exercise|solution-start)\}.*?\n````*\n?", "", text, flags=re.S)
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", "", text, flags=re.S)
    text = re.sub(r"[-−+]?[\d.,]*(?:e[-+]?\d+)?%?<!--(?!from: ).*?-->", "", text)
    text = re.sub("<!--from: .*?-->", "\N{REFERENCE MARK}", text)
    for sentence in re.split(r"(?<=[.!?:;])\s+|\n", text):
        if "bibliography.md#" in sentence:
            continue
        for unit in (_MEASURED, _COUNTED):
            for found in re.finditer(_NUMBER + unit + "(?!\N{REFERENCE MARK})", sentence):
                digits = re.findall(r"\d[\d.,]*\d|\d", found[0].replace("/Å²", ""))
                values = {float(d.replace(",", "")) for d in digits}
                allowed = known if unit == _COUNTED else LEVELS if "%" in found[0] else set()
                if not values <= {float(v) for v in allowed}:
                    yield found[0]


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
            computing = sum(not line.startswith("#") for line in lines)
            hidden += computing * bool(tags(cell) & HIDDEN)
            lines_of_code += computing
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
            widgets = [name for name in data if "widget-view" in name]
            assert not widgets, "its kernel is gone when the page is opened again"
            assert "image/png" not in data, "a figure that `figures.show` did not put there"
            for figure in BeautifulSoup(data.get("text/html", ""), "html.parser")("figure"):
                readable(figure)
    assert set(notebook.metadata) == {"kernelspec", "language_info", "insitu"}


def readable(figure):
    """A figure has a number and a caption, pictures have words, and a phone shows its letters."""
    said = figure.find("figcaption").get_text()
    assert re.match(r"Figure (\d+[a-z]?\.)?\d+\. \S+ \S+", said), said
    for image in figure("img"):
        assert len(image["alt"].split()) >= 4
        drawn = image.find_parent("picture") or image
        letters = drawn.get("data-narrow", drawn.get("data-letters"))
        if letters:
            shown = float(letters) * tiles.PHONE
            assert shown >= 0.99 * tiles.LEAST, f"letters of {shown:.1f} px on a phone: {said}"


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
            data = output.get("data", {})
            page = BeautifulSoup(data.get("text/html", ""), "html.parser")
            shown = [part.get_text(" ") for part in page.select("figure, .insitu-table")]
            for text in (output.get("text", ""), data.get("text/plain", ""), *shown):
                assert not (wrong := UNPRINTED.search(text)), f"{wrong[0]!r} in {text}"


def drawn_units(path, notebook):
    """Letters of a drawing cannot be read by a test: they are held where they are written."""
    del path
    for cell in code(notebook):
        for call in ast.walk(ast.parse(cell.source)):
            for word in getattr(call, "keywords", []):
                typeset = isinstance(word.value, ast.Call)
                if word.arg in ("xlabel", "ylabel", "label", "title") and not typeset:
                    texts = [n.value for n in ast.walk(word.value) if isinstance(n, ast.Constant)]
                    assert not UNPRINTED.search(" ".join(map(str, texts))), texts


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
    captions,
    folded_code_is_named,
    results_by_hand,
    drawn_units,
    cells,
    no_path_of_a_machine,
]  # of a page as it is written
RUN = [outputs, numbers, printed, budget]  # of one that was run

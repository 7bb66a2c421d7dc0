"""The command line: names, values and files are checked before anything runs."""

import json

import click
import nbformat
import pytest

from insitu import InputError
from insitu.book import cli


def call(*words):
    """Exit status of a call of `insitu`."""
    with pytest.raises(SystemExit) as caught:
        cli.main(list(words))
    return caught.value.code


@pytest.fixture
def small_book(tmp_path, monkeypatch):
    """A book of two tiny chapters."""
    folder = tmp_path / "book" / "notebooks"
    (folder / "presets").mkdir(parents=True)
    (folder / "presets" / "smoke.yml").write_text("01-good:\n  size: 2\n")
    code = nbformat.v4.new_code_cell
    for name, body in (("01-good", "x = size"), ("02-broken", "raise RuntimeError('a bug')")):
        cells = [
            nbformat.v4.new_markdown_cell("# A page"),
            code(
                'size: int = 5  # of it; 1 to 9\noutput_dir: str = ""  # where results go',
                metadata={"tags": ["parameters"]},
            ),
            code(f"from insitu.book import chapter\npage = chapter.start({name!r}, globals())"),
            code(body),
            code("page.finish({'size': size})"),
        ]
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, folder / f"{name}.ipynb")
    monkeypatch.setattr(cli, "NOTEBOOKS", folder)
    return folder


@pytest.mark.usefixtures("small_book")
def test_chapters_by_number_and_name():
    assert [p.stem for p in cli.find_chapters(["1", "02-broken"])] == ["01-good", "02-broken"]
    assert [p.stem for p in cli.find_chapters(["all", "01"])] == ["01-good", "02-broken"]
    for bad in ("7", "good", ""):
        with pytest.raises(InputError, match="known are 01-good, 02-broken"):
            cli.find_chapters([bad])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-p", "size", "0"), "size: got 0; allowed: 1 to 9"),
        (("-p", "size=many"), "size: expected int, got 'many'"),
        (("-p", "seize", "3"), "unknown parameter seize; this chapter knows size, output_dir"),
        (("--preset", "huge"), "no preset 'huge'; known are smoke"),
        (("-f", "missing.yml"), "missing.yml cannot be read"),
        (("-p", "output_dir=NOTEBOOKS"), "holds the sources of the book"),
    ],
)
def test_bad_calls_are_refused_in_a_sentence(small_book, tmp_path, capsys, words, sentence):
    before = sorted(tmp_path.rglob("*"))
    status = call("run", "01", *(w.replace("NOTEBOOKS", str(small_book)) for w in words))
    assert status in (1, 2)
    errors = capsys.readouterr().err.strip().splitlines()
    assert sentence in errors[-1]
    assert "Traceback" not in "\n".join(errors)
    assert sorted(tmp_path.rglob("*")) == before


def test_values_come_from_preset_file_and_command_line(small_book, tmp_path):
    (tmp_path / "v.yml").write_text("size: 3\n")
    path = small_book / "01-good.ipynb"
    assert cli._parameters(path, "smoke", (), ()) == {"size": 2}
    assert cli._parameters(path, "smoke", [str(tmp_path / "v.yml")], ()) == {"size": 3}
    given = (("size", "4"),)
    assert cli._parameters(path, "smoke", [str(tmp_path / "v.yml")], given) == {"size": 4}
    (tmp_path / "v.yml").write_text("- 3\n")
    with pytest.raises(InputError, match="expected lines of"):
        cli._parameters(path, None, [str(tmp_path / "v.yml")], ())


def test_run_writes_results_and_a_table(small_book, tmp_path, capsys):
    out = tmp_path / "out"
    cli.group(["run", "01", "-p", "size", "7", "-p", "output_dir", str(out)], standalone_mode=False)
    assert json.loads((out / "results.json").read_text()) == {"size": 7.0}
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["chapter", "seconds", "peak", "MB", "device", "result"]
    assert table[1].startswith("01-good")
    assert sorted(p.name for p in out.iterdir()) == ["01-good.ipynb", "results.json", "run.json"]
    assert nbformat.read(small_book / "01-good.ipynb", as_version=4).cells[3].outputs == []


@pytest.mark.usefixtures("small_book")
def test_a_chapter_that_fails(tmp_path, capsys):
    out = tmp_path / "out"
    assert call("run", "02", "-p", "output_dir", str(out)) == 1
    caught = capsys.readouterr()
    assert "failed with RuntimeError: a bug" in caught.err
    assert [p.name for p in out.iterdir()] == ["02-broken.failed.ipynb"]
    assert "02-broken" in caught.out


def test_help_names_the_commands(capsys):
    assert call("--help") == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("run", "refresh", "doctor"))
    assert isinstance(cli.group, click.Group)


def test_bank_is_made_and_not_overwritten(tmp_path, capsys):
    path = tmp_path / "waves.zarr"
    with pytest.raises(SystemExit) as caught:
        cli.main(["bank", str(path), "--count", "1"])
    assert caught.value.code == 0
    assert (path / "zarr.json").is_file()
    assert call("bank", str(path)) == 2
    assert f"{path} exists" in capsys.readouterr().err
    assert call("bank", str(tmp_path / "x"), "--count", "0") == 2
    assert "count: got 0" in capsys.readouterr().err

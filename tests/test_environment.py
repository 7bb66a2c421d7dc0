"""The conda environment is the runtime part of pyproject.toml, no more and no less."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"torch": "pytorch-cpu"}


def split(requirement):
    name, spec = re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", requirement).groups()
    return name, spec


def test_environment_is_that_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = dict(split(r) for r in project["dependencies"])
    wanted = {CONDA_NAMES.get(name, name): spec for name, spec in wanted.items()}
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert listed["channels"] == ["conda-forge"]
    conda = dict(split(r) for r in listed["dependencies"] if isinstance(r, str))
    assert conda.pop("python") == "=3.11"
    assert conda.pop("pip") == ""
    (pip,) = [r["pip"] for r in listed["dependencies"] if isinstance(r, dict)]
    assert pip.pop() == "-e ."
    assert conda | dict(map(split, pip)) == wanted


def test_the_version_to_cite_is_that_of_the_library():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == project["version"]
    assert project["version"] in (ROOT / "CHANGELOG.md").read_text()


def test_every_requirement_is_constrained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    lines = (ROOT / "constraints.txt").read_text().lower().splitlines()
    pinned = {line.split("==")[0].replace("_", "-") for line in lines if "==" in line}
    missing = {split(r)[0] for r in wanted} - pinned
    assert not missing


def needed_by(names):
    """Every installed distribution that these need, with the requirements that each states."""
    found, asked = {}, list(names)
    while asked:
        name = asked.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            told = map(Requirement, metadata.requires(name) or [])
        except metadata.PackageNotFoundError:
            continue
        found[name] = [r for r in told if not r.marker or r.marker.evaluate({"extra": ""})]
        asked += [requirement.name for requirement in found[name]]
    return found


@pytest.mark.parametrize(("name", "version"), [("numpy", "2.0.2"), ("torch", "2.6.0")])
def test_what_a_session_elsewhere_has_can_stay(name, version):
    """In Colab numpy and torch are kept as they are: nothing that is installed asks for others."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = [Requirement(text) for text in project["dependencies"]]
    everything = needed_by(requirement.name for requirement in ours) | {"insitu-book": ours}
    asked = {
        f"{owner} wants {requirement}": requirement.specifier.contains(version)
        for owner, requirements in everything.items()
        for requirement in requirements
        if requirement.name == name
    }
    assert len(asked) > (10 if name == "numpy" else 0)
    assert not [text for text, fits in asked.items() if not fits]


def test_the_cell_for_colab_keeps_numpy_and_torch(tmp_path):
    """It lists what is there as pip does, and gives that as a constraint."""
    text = (ROOT / "book" / "how-to-run.md").read_text("utf-8")
    (cell,) = re.findall(r"```ipython3\n(!git clone.*?)```", text, re.S)
    compile(re.sub(r"(?m)^!.*$", "pass", cell), "cell", "exec")
    listing, install = (line[1:] for line in cell.splitlines() if line.startswith("!pip"))
    listing = listing.replace("pip ", f"{sys.executable} -m pip ", 1)
    subprocess.run(["bash", "-c", listing], cwd=tmp_path, check=True)
    have = dict(line.split("==") for line in (tmp_path / "have.txt").read_text().splitlines())
    assert {name: metadata.version(name) for name in ("numpy", "torch")} == have
    assert install == "pip install -q -c have.txt -e insitu-book"

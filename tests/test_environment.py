"""The conda environment is the runtime part of pyproject.toml, no more and no less."""

import re
import tomllib
from pathlib import Path

import yaml

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


def test_every_requirement_is_constrained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    lines = (ROOT / "constraints.txt").read_text().lower().splitlines()
    pinned = {line.split("==")[0].replace("_", "-") for line in lines if "==" in line}
    missing = {split(r)[0] for r in wanted} - pinned
    assert not missing

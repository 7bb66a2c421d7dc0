"""The order of the library: data flow one way, and imports with them; nothing is loaded early."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "lib" / "insitu"
SHARED = {"checks", "files", "fetch"}  # may be imported by all, and import no package
ORDER = [
    {"counting"},
    {"simulate", "learning"},
    {"denoise"},
    {"trust"},
    {"measure", "tomography"},
    {"own"},
    {"streaming"},
    {"book"},
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
MODULES = sorted(LIBRARY.rglob("*.py"))


def imported(path):
    """Names of the library that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide the order"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (n.split(".")[1] for n in names if n.startswith("insitu."))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_imports_point_one_way(path):
    inside = path.relative_to(LIBRARY).parts
    mine = inside[0] if len(inside) > 1 else path.stem
    for name in imported(path):
        if name in RANK and name != mine:
            assert RANK[name] < RANK.get(mine, -1), f"{path.name} imports insitu.{name}"


def test_rooms_are_known_and_few_modules_stand_loose():
    packages = {p.name for p in LIBRARY.iterdir() if (p / "__init__.py").exists()}
    loose = {p.stem for p in LIBRARY.glob("*.py")} - {"__init__"}
    assert packages <= set(RANK) | SHARED
    assert loose <= SHARED | set(RANK)
    assert len(loose) <= 4


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_library_does_not_print(path):
    calls = [
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert "print" not in calls


@pytest.mark.parametrize(
    ("statement", "without"),
    [
        ("import insitu", {"numpy", "torch", "zarr"}),
        ("from insitu.book import cli; cli.group.commands", {"numpy", "torch", "papermill"}),
        ("from insitu.trust import report", {"torch", "abtem", "hyperspy", "matplotlib"}),
        ("from insitu.book import runs", {"torch", "abtem", "hyperspy", "matplotlib"}),
        ("import insitu.files", {"torch", "abtem", "hyperspy", "rsciio", "dask", "matplotlib"}),
        ("import insitu.tomography.volumes", {"abtem", "hyperspy", "matplotlib"}),
        ("import insitu.denoise.supervised", {"abtem", "hyperspy", "matplotlib"}),
    ],
)
def test_imports_are_light(statement, without):
    code = f"{statement}\nimport json, sys; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not without & set(json.loads(done.stdout))

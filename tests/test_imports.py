"""The order of the library: data flow one way, and imports with them."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "lib" / "insitu"
ORDER = ["counting", "simulate", "learning", "denoise", "trust", "tomography", "book"]
MODULES = sorted(LIBRARY.rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide the order"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_imports_point_up_the_order(path):
    inside = path.relative_to(LIBRARY).parts
    package = inside[0] if len(inside) > 1 else None
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "insitu" or len(parts) < 2 or parts[1] not in ORDER:
            continue
        if package is None:
            # shared modules stand beside the packages; only the command line sees them all
            assert path.stem == "own", f"{path.name} imports {name}"
        else:
            assert ORDER.index(parts[1]) <= ORDER.index(package), f"{path.name} imports {name}"


def test_packages_are_known():
    packages = {p.name for p in LIBRARY.iterdir() if (p / "__init__.py").exists()}
    assert packages <= set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_library_does_not_print(path):
    calls = [
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert "print" not in calls

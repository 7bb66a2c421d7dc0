"""Examples in docstrings run, and every package lists its modules."""

import doctest
import importlib
import inspect

import pytest
from library_map import LIBRARY, listed

import insitu

MODULES = sorted(LIBRARY.rglob("*.py"))
PACKAGES = sorted(p.parent for p in LIBRARY.glob("*/__init__.py"))
ROOMS = sorted(p.parent for p in LIBRARY.glob("*/**/__init__.py"))
FRONT_DOOR = sorted(set(insitu.__all__) - {"InputError"})


@pytest.mark.parametrize(
    "path", [p for p in MODULES if ">>> " in p.read_text()], ids=lambda p: p.stem
)
def test_examples_run(path):
    parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize("name", FRONT_DOOR)
def test_what_one_calls_first_has_an_example(name):
    item = getattr(insitu, name)
    assert ">>> " in inspect.getdoc(item)
    assert item.__name__ == name


@pytest.mark.parametrize("package", ROOMS, ids=lambda p: p.name)
def test_a_package_lists_its_modules(package):
    there = {p.stem for p in package.glob("*.py")} - {"__init__"}
    there |= {p.parent.name for p in package.glob("*/__init__.py")}
    assert set(listed(package / "__init__.py")) == there


def test_the_library_lists_its_packages():
    there = {f"insitu.{p.name}" for p in PACKAGES} | {"insitu.own"}
    assert set(listed(LIBRARY / "__init__.py")) == there

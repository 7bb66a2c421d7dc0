"""The parameters of a chapter, declared in its own parameters cell.

One annotated line for each parameter, with the meaning, the unit and the allowed values in the
comment:

    dose: float = 8.0  # electrons per square angstrom and frame [e-/A^2]; 0.01 to 10000
    device: str = "auto"  # where to compute; one of auto, cpu, cuda
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insitu import InputError

_YES_NO = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
# papermill.inspect_notebook reads the same, but passes over a line that it cannot read
_NUMBER = r"([-+]?[\d.]+(?:e[-+]?\d+)?)"
_ALLOWED = rf"(?:;\s*(?:{_NUMBER} to {_NUMBER}|one of (.+)))?"
_LINE = re.compile(rf"(\w+)\s*:\s*(int|float|str|bool)\s*=\s*(.+?)\s*#\s*([^#=]+?){_ALLOWED}\s*")


@dataclass(frozen=True)
class Parameter:
    """One line of the parameters cell."""

    name: str
    type: str
    default: Any
    help: str
    span: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.span:
            return f"{self.span[0]:g} to {self.span[1]:g}"
        return {"bool": "true or false", "str": "any text"}.get(self.type, f"any {self.type}")

    def check(self, value: Any) -> Any:
        """Return the value in its type.

        Raises
        ------
        InputError
            With the parameter's name, the value and what is allowed.
        """
        expected: Any = _TYPES[self.type]
        if expected is float and type(value) is int:
            value = float(value)
        if type(value) is not expected:
            raise InputError(
                f"{self.name}: expected {self.type}, got {value!r}; allowed: {self.allowed}"
            )
        outside = self.span and not self.span[0] <= value <= self.span[1]  # NaN is outside
        if outside or (self.choices and value not in self.choices):
            raise InputError(f"{self.name}: got {value!r}; allowed: {self.allowed}")
        return value

    def read(self, written: Any) -> Any:
        """Return the checked value of what a file has behind the name.

        Raises
        ------
        InputError
            If it is a list or a table, or as for `check`.
        """
        return self.parse(written) if isinstance(written, str) else self.check(written)

    def parse(self, text: str) -> Any:
        """Return the checked value of a text from the command line, or from a file."""
        value: Any = text
        if self.type == "bool":
            value = _YES_NO.get(text.lower(), text)
        else:
            with suppress(ValueError):
                value = _TYPES[self.type](text)
        return self.check(value)


def parse_parameters(source: str) -> dict[str, Parameter]:
    """Read the declarations of a parameters cell.

    Raises
    ------
    ValueError
        If a line is anything else than `name: type = value  # meaning; allowed`.
    """
    declared = {}
    for number, line in enumerate(source.splitlines(), 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        if not found:
            raise ValueError(
                f"line {number} of the parameters cell: expected "
                f"'name: int, float, str or bool = value  # meaning; allowed values'"
            )
        name, kind, value, text, low, high, choices = found.groups()
        declared[name] = Parameter(
            name=name,
            type=kind,
            default=ast.literal_eval(value),
            help=text.strip(),
            span=(float(low), float(high)) if low else None,
            choices=tuple(c.strip() for c in choices.split(",")) if choices else (),
        )
    return declared


def declared_in(path: Path) -> dict[str, Parameter]:
    """Read the declarations of a notebook.

    Raises
    ------
    InputError
        If there is no such notebook, or it has no parameters cell.
    """
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        raise InputError(f"{path} cannot be read as a notebook") from None
    for cell in cells:
        if "parameters" in cell["metadata"].get("tags", []):
            return parse_parameters("".join(cell["source"]))
    raise InputError(f"{path.name} has no cell tagged 'parameters'")


def check_names(given: Iterable[str], declared: Iterable[str]) -> None:
    """Refuse names that are no parameters.

    Raises
    ------
    InputError
        With the known names.
    """
    unknown = [name for name in given if name not in declared]
    if unknown:
        raise InputError(
            f"unknown parameter {', '.join(unknown)}; this chapter knows {', '.join(declared)}"
        )

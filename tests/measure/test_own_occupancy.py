"""Atoms counted in a reader's image: files, refusals, and the crystal that it may be."""

import csv

import ase.build
import ase.io
import numpy as np
import pytest
import tifffile
from ase.spacegroup import crystal

from insitu import InputError
from insitu.own import count_atoms
from insitu.simulate.ceria import Slab
from insitu.simulate.imaging import Optics


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Counts of 200 e-/A^2, in pixels of 0.2 A."""
    from insitu.measure.occupancy.slabs import specimen_of, views_of

    views = views_of(
        specimen_of(Slab(thickness=5, tilt=(0.3, 0.2))),
        Optics(defocus=-70.0),
        rotation=np.array([20.0]),
        shift=np.zeros((1, 2)),
        focal_points=1,
    )
    counts = np.random.default_rng(0).poisson(views.clean[0].numpy() * 200 * 0.04, (2, 128, 128))
    path = tmp_path_factory.mktemp("image") / "ceria.npy"
    np.save(path, counts.astype(np.uint16))
    return path


@pytest.mark.parametrize(("lattice", "known"), [(5.41, True), (5.1, False)])
def test_files_are_written_for_ceria_alone(image, tmp_path, lattice, known):
    cell = crystal(
        ["Ce", "O"],
        [(0, 0, 0), (0.25, 0.25, 0.25)],
        spacegroup=225,
        cellpar=[lattice] * 3 + [90] * 3,
    )
    ase.io.write(tmp_path / "cell.cif", cell)
    given = {"pixel_size": 0.2, "crystal": tmp_path / "cell.cif", "device": "cpu"}
    if not known:
        with pytest.raises(InputError, match="is not ceria"):
            count_atoms(image, tmp_path, **given)
        assert not (tmp_path / "columns.csv").exists()
        return
    found = count_atoms(image, tmp_path, **given)
    with (tmp_path / "columns.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.y) > 80
    assert {row["species"] for row in rows} == {"cation", "anion"}
    assert all(float(r["low_90"]) <= float(r["atoms"]) <= float(r["high_90"]) for r in rows)
    labels, atoms = (tifffile.imread(tmp_path / f"{n}.tif") for n in ("labels", "occupancy"))
    assert labels.shape == atoms.shape == (128, 128)
    assert ((labels > 0) == (atoms > 0)).all()
    assert (tmp_path / "report.html").exists()


def test_what_is_no_ceria_is_refused_before_any_work(image, tmp_path):
    gold = ase.build.bulk("Au", cubic=True)
    ase.io.write(tmp_path / "gold.cif", gold)
    (tmp_path / "bad.cif").write_text("no crystal")
    for name, complaint in (("gold", "Au4|Au"), ("bad", "could not be read"), ("none", "no .cif")):
        with pytest.raises(InputError, match=complaint):
            count_atoms(image, tmp_path, pixel_size=0.2, crystal=tmp_path / f"{name}.cif")


def test_a_wrong_pixel_size_or_few_electrons_are_said_in_a_sentence(image, tmp_path):
    wide = count_atoms(image, tmp_path, pixel_size=0.4, device="cpu")
    assert "outside of 0.04 to 0.26" in wide.abstains
    assert "Not to be believed" in (tmp_path / "report.html").read_text()
    few = np.random.default_rng(0).poisson(0.2, (1, 128, 128)).astype(np.uint16)
    np.save(tmp_path / "few.npy", few)
    said = count_atoms(tmp_path / "few.npy", tmp_path, pixel_size=0.2, device="cpu").abstains
    assert "sum frames" in said

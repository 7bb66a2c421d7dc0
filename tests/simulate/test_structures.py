import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from insitu import InputError
from insitu.simulate import structures


def test_reads_xyz_and_cif(tmp_path):
    particle = Atoms("Pt4", [(0, 0, 0), (2.77, 0, 0), (0, 2.77, 0), (0, 0, 2.77)])
    write(tmp_path / "p.xyz", particle)
    read = structures.read_structure(tmp_path / "p.xyz")
    assert len(read) == 4
    assert (read.positions > 0).all()
    assert set(read.arrays) >= {"column", "surface"}
    write(tmp_path / "c.cif", bulk("Au"))  # a primitive cell, not orthogonal
    gold = structures.read_structure(tmp_path / "c.cif", thickness=20)
    lengths = gold.cell.lengths()
    assert lengths[:2].min() >= 30
    assert lengths[2] == pytest.approx(20, abs=4)
    assert gold.cell.angles() == pytest.approx([90, 90, 90])


def bad_files(folder):
    (folder / "empty.xyz").write_text("")
    (folder / "none.xyz").write_text("0\n\n")
    (folder / "words.xyz").write_text("a particle of platinum\n")
    (folder / "cut.xyz").write_text("3\n\nPt 0 0 0\nPt 3 0 0\n")
    (folder / "nan.xyz").write_text("2\n\nPt nan 0 0\nPt 3 0 0\n")
    (folder / "twice.xyz").write_text("2\n\nPt 0 0 0\nPt 0 0 0.1\n")
    (folder / "far.xyz").write_text("2\n\nPt 0 0 0\nPt 0 5000 0\n")
    (folder / "words.cif").write_text("a crystal of platinum\n")
    (folder / "p.pdb").write_text("ATOM\n")
    return {
        "empty.xyz": "could not be read",
        "none.xyz": "has no atoms",
        "words.xyz": "could not be read",
        "cut.xyz": "could not be read",
        "nan.xyz": "1 values are NaN or infinite",
        "twice.xyz": "only 0.10 A apart",
        "far.xyz": "too many",
        "words.cif": "could not be read",
        "p.pdb": "is not an .xyz or .cif file",
        "missing.xyz": "there is no file",
    }


def test_bad_files_bring_a_sentence(tmp_path):
    for name, sentence in bad_files(tmp_path).items():
        with pytest.raises(InputError, match=sentence) as caught:
            structures.read_structure(tmp_path / name)
        assert "\n" not in str(caught.value)

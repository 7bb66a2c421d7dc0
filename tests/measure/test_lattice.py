import numpy as np
import pytest

from insitu import InputError
from insitu.measure.columns import fit_columns
from insitu.measure.facets import facets, surface
from insitu.measure.following import follow, rigid_motion, turn_and_strain, turning
from insitu.measure.lattice import crystals, fit_lattice
from insitu.simulate.movie_files import shipped_movie
from insitu.trust.columns import find_columns, match

FCC = np.array([[-1.96, 1.386], [1.96, 1.386]])  # 2.40 A each, 109.5 degrees apart
TALL = np.array([[1.96, 1.386], [0.0, 2.772]])


def particle(size=11, centre=(30.0, 30.0)):
    """Columns of a particle without any symmetry, and their names along FCC."""
    n = np.stack(np.mgrid[-size:size, -size:size], -1).reshape(-1, 2)
    p = n @ FCC
    inside = (np.abs(p[:, 0]) < 13) & (np.abs(p[:, 1]) < 12) & (p.sum(1) < 14)
    return p[inside] + centre, n[inside]


def film():
    """Columns of a support below, of another lattice."""
    n = np.stack(np.mgrid[:4, :20], -1).reshape(-1, 2)
    return n @ np.array([[3.1, 1.0], [0.0, 3.31]]) + [45.5, -3.0]


def turned(places, angle, shift=(0, 0), about=(30.0, 30.0)):
    return (places - about) @ turning(angle) + about + np.asarray(shift)


def test_a_motion_of_half_a_spacing_and_more():
    body, _ = particle()
    rng = np.random.default_rng(0)
    for shift, angle in (((1.2, 0.0), 0), ((-0.9, 1.3), 2.5), ((2.4, -2.4), -3), ((0, 5.0), 1)):
        places = np.concatenate([turned(body, angle, shift), film()])
        places += 0.05 * rng.standard_normal(places.shape)
        found = rigid_motion(body, rng.permutation(places))
        assert found.angle == pytest.approx(angle, abs=0.15)
        np.testing.assert_allclose(found(body), turned(body, angle, shift), atol=0.1)
        assert found.matched > 0.95


def test_particle_and_support_are_told_apart():
    body, _ = particle()
    rng = np.random.default_rng(1)
    places = np.concatenate([body, film()])
    places += 0.05 * rng.standard_normal(places.shape)
    found = crystals(places)
    assert len(found) == 2
    assert found[0].member[: len(body)].all()
    assert found[0].member[len(body) :].sum() <= 2
    np.testing.assert_allclose(np.sort(np.linalg.norm(found[0].vectors, axis=1)), 2.4, atol=0.02)
    both = np.linalg.norm(found[1].vectors, axis=1)
    np.testing.assert_allclose(np.sort(both), [3.257, 3.31], atol=0.05)


def test_columns_keep_their_names_through_drift_turn_gaps_and_absence():
    """5 px of drift and more than a degree of turn in each frame, on top of a support."""
    body, names = particle(centre=(30.0, 40.0))
    rng = np.random.default_rng(2)
    drift = np.array([0.0, 1.2])
    frames, kept = [], []
    for t in range(10):
        there = rng.random(len(body)) > 0.05
        places = np.concatenate([turned(body, 10 * t / 9, t * drift)[there], film() + t * drift])
        order = rng.permutation(len(places))
        frames.append((places + 0.05 * rng.standard_normal(places.shape))[order])
        which = np.append(np.flatnonzero(there), np.full(len(film()), -1))[order]
        kept.append(which)
    frames[4], kept[4] = np.zeros((0, 2)), np.zeros(0, int)
    track = follow(frames, particle=(30, 40))
    assert track.lost.tolist() == [t == 4 for t in range(10)]
    called = {}
    for t in np.flatnonzero(~track.lost):
        for name, number in zip(track.names.tolist(), track.column[t], strict=True):
            if number >= 0 and kept[t][number] >= 0:
                called.setdefault(int(kept[t][number]), set()).add(tuple(name))
    assert all(len(given) == 1 for given in called.values())
    assert len(called) > 0.98 * len(body)
    right = ~track.lost
    off = (track.angle - 10 * np.arange(10) / 9)[right]
    assert np.abs(off - off[0]).max() < 0.3
    assert (track.angle_error[right] < 0.1).all()
    assert len(set(map(tuple, names.tolist()))) == len(names)


def test_errors_of_turn_and_strain():
    body, names = particle()
    rng = np.random.default_rng(3)
    stretch = np.array([[1.01, 0.002], [0.002, 0.995]])
    exact = FCC @ stretch @ turning(4)
    z = []
    for draw in range(200):
        error = rng.uniform(0.05, 0.3, body.shape)
        places = names @ exact + 7 + error * rng.standard_normal(body.shape)
        places[draw % len(body)] = np.nan
        _, vectors, covariance = fit_lattice(places, names, error)
        angle, strain, angle_error, strain_error = turn_and_strain(
            vectors, FCC, covariance[:, 1:, 1:]
        )
        off = strain - stretch + np.eye(2)
        z.append([(angle - 4) / angle_error, *(off / strain_error).ravel()])
    assert np.std(z, axis=0) == pytest.approx(np.ones(5), abs=0.17)
    assert np.abs(np.mean(z, axis=0)).max() < 0.25


def test_no_crystal_is_one_sentence():
    rng = np.random.default_rng(4)
    with pytest.raises(InputError, match="none of the 3 frames has a crystal"):
        follow([rng.uniform(0, 60, (150, 2)) for _ in range(3)])
    noise = rng.poisson(0.5, (2, 128, 128)).astype(float)
    found = [find_columns(f, 0.24, threshold=0.4).positions for f in noise]
    with pytest.raises(InputError, match="has a crystal"):
        follow(found)
    with pytest.raises(InputError, match="no crystal in this frame"):
        crystals(np.zeros((0, 2)))
    with pytest.raises(InputError, match="a motion needs three"):
        rigid_motion(np.zeros((2, 2)), np.zeros((5, 2)))
    with pytest.raises(InputError, match="not in a row"):
        fit_lattice([[0, 0], [1, 1], [2, 2], [3, 3]], [[0, 0], [1, 1], [2, 2], [3, 3]])


def test_facets_of_a_truncated_crystal():
    n = np.stack(np.mgrid[:9, :9], -1).reshape(-1, 2)
    n = n[np.abs(n[:, 0] - n[:, 1]) <= 5]
    found = facets(n, FCC)
    assert sorted(f.kind for f in found) == ["(100)"] * 2 + ["(111)"] * 4
    assert {len(f.columns) for f in found if f.kind == "(100)"} == {4}
    edge = surface(n, FCC)
    on_facets = np.unique(np.concatenate([f.columns for f in found]))
    assert edge[on_facets].all()
    assert edge.sum() == len(on_facets) == 4 * 6 + 2 * 4 - 6  # six corners
    # turned, the normals turn along
    normals = sorted(round(f.normal) for f in facets(n, FCC @ turning(20)))
    assert normals == sorted(round(f.normal) + 20 for f in found)
    # a and b may be any of its lattice
    other = np.rint(n @ FCC @ np.linalg.inv(TALL)).astype(int)
    assert sorted(f.kind for f in facets(other, TALL)) == sorted(f.kind for f in found)
    with pytest.raises(InputError, match="fcc crystals along"):
        facets(n, np.eye(2) * 2)


@pytest.mark.slow
def test_the_turn_of_the_shipped_movie():
    """Ten degrees in the nine frames of the event, and clean columns to a few picometres."""
    movie = shipped_movie()
    clean = np.asarray(movie.clean[64:73], float)
    found = [find_columns(f, movie.pixel_size, threshold=0.04, border=1).positions for f in clean]
    track = follow(found)
    assert not track.lost.any()
    assert track.angle[-1] - track.angle[0] == pytest.approx(10, abs=0.3)
    truth = movie.truth(64)
    there = track.column[0] >= 0
    fit = fit_columns(clean[0], found[0], movie.pixel_size, None, free=("width",))
    fitted = fit.position[0, track.column[0][there]]
    pairs = match(fitted, np.stack([truth["y"], truth["x"]], 1))
    assert len(pairs.found) == len(truth)
    assert np.median(pairs.distance) < 0.03

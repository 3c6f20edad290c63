"""Each content loss against float64 NumPy and SciPy, finite differences, degenerate features.

Losses equal the reference to a relative 1e-4, on random features and on VGG's; gradients equal
central differences in float64 to 1e-5.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from test_style_losses import DEGENERATE, as_float64, flat, random_features, unit

from nstyle.losses import CONTENT_LOSSES, Contextual, SelfSimilarity
from nstyle.losses.points import grid_sample
from nstyle.objective import Structure, features_of

FLOOR = 1e-5


def rescaled(f, p):
    variance = p.var(axis=(0, 1))
    return ((f - p) ** 2 / (variance + 0.01 * variance.mean() + 1e-6)).mean()


def cosine(f, p):
    one, two = (unit(flat(x) - flat(x).mean(axis=0)) for x in (f, p))
    return ((one - two) ** 2).sum(axis=1).mean() / 2


def self_similarity(f, p):
    def shares(x):
        distances = cdist(unit(flat(x)), unit(flat(x)), "sqeuclidean") / 2
        return distances / (distances.sum(axis=0) + FLOOR)

    return np.abs(shares(f) - shares(p)).sum() / len(flat(f))


def contextual(f, p):
    one, two = (unit(flat(x) - flat(p).mean(axis=0)) for x in (f, p))
    distances = cdist(one, two, "sqeuclidean") / 2
    relative = distances / (distances.min(axis=1, keepdims=True) + FLOOR)
    weights = np.exp((1 - relative) / 0.1)
    similarity = weights / weights.sum(axis=1, keepdims=True)
    return -np.log(similarity.max(axis=0).mean())


REFERENCE = {
    "euclidean": lambda f, p: ((f - p) ** 2).mean(),
    "rescaled": rescaled,
    "cosine": cosine,
    "self_similarity": self_similarity,
    "contextual": contextual,
}


def value_of(name, f, p):
    return CONTENT_LOSSES[name]().distance(f, p)


@pytest.fixture(scope="module")
def real(vgg16, torch_reference):
    pictures = [
        jnp.asarray(torch_reference[name], jnp.float32)[:32, :32] / 255
        for name in ("content", "style")
    ]
    of = jax.jit(functools.partial(features_of, Structure(), layers=("conv1_2", "conv4_2")))
    return [of(vgg16.params, picture) for picture in pictures]


def test_every_loss_has_a_reference():
    assert REFERENCE.keys() == CONTENT_LOSSES.keys()


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("size", [(6, 9), (3, 2)])
def test_equals_float64_on_random_features(name, size, random):
    f, p = (random_features(random, *size, 8) for _ in range(2))
    expected = REFERENCE[name](*as_float64((f, p)))
    np.testing.assert_allclose(value_of(name, f, p), expected, rtol=1e-4)


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("layer", ["conv1_2", "conv4_2"])
def test_equals_float64_on_real_features(name, layer, real):
    f, p = (maps[layer] for maps in real)
    expected = REFERENCE[name](*as_float64((f, p)))
    np.testing.assert_allclose(value_of(name, f, p), expected, rtol=1e-4)


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("layer", ["conv1_2", "conv4_2"])
def test_zero_on_identical_features(name, layer, real):
    """To 1e-4 of what the loss is between the two pictures."""
    f, p = (maps[layer] for maps in real)
    assert abs(value_of(name, p, p)) <= 1e-4 * value_of(name, f, p)


@pytest.mark.parametrize("name", REFERENCE)
def test_gradient_agrees_with_finite_differences(name, random):
    with jax.enable_x64(True):
        f, p, direction = (jnp.asarray(random.gamma(1.0, size=(6, 5, 4))) for _ in range(3))
        gradient = jax.grad(functools.partial(value_of, name))(f, p)
        ahead, behind = (value_of(name, f + step * direction, p) for step in (1e-6, -1e-6))
        difference = (ahead - behind) / 2e-6
        np.testing.assert_allclose(jnp.vdot(gradient, direction), difference, rtol=1e-5)


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("other", ["same", "random"])
@pytest.mark.parametrize("features", DEGENERATE.values(), ids=DEGENERATE)
def test_value_and_gradient_are_finite(name, other, features, random):
    p = features if other == "same" else random_features(random, *features.shape)
    for one, two in ((features, p), (p, features)):
        value, gradient = jax.value_and_grad(functools.partial(value_of, name))(one, two)
        assert np.isfinite(value) and np.isfinite(gradient).all()
        if other == "same":
            alike = np.log(features.shape[0] * features.shape[1]) if name == "contextual" else 0
            np.testing.assert_allclose(value, alike, atol=1e-6)


def test_contextual_does_not_know_where_things_are(random):
    f, p = (random_features(random, 5, 6, 8) for _ in range(2))
    moved = jnp.roll(f, (2, 3), axis=(0, 1))
    np.testing.assert_allclose(
        value_of("contextual", moved, p), value_of("contextual", f, p), rtol=1e-5
    )
    assert value_of("euclidean", jnp.roll(p, 1, axis=0), p) > 1e3 * abs(
        value_of("contextual", jnp.roll(p, 1, axis=0), p)
    )


def test_self_similarity_does_not_know_what_things_are_made_of(random):
    """Another basis of the channels, and another contrast, change nothing."""
    f, p = (random_features(random, 5, 6, 8) for _ in range(2))
    basis = jnp.asarray(np.linalg.qr(random.normal(size=(8, 8)))[0], jnp.float32)
    found = value_of("self_similarity", 3 * f @ basis, p)
    np.testing.assert_allclose(found, value_of("self_similarity", f, p), rtol=1e-4)


@pytest.mark.parametrize("kind", [SelfSimilarity, Contextual])
def test_only_a_grid_of_positions_takes_part(kind, random):
    f, p = (random_features(random, 9, 8, 5) for _ in range(2))
    on_grid = (grid_sample(x, 20)[:, None] for x in (f, p))
    np.testing.assert_allclose(
        kind(samples=20).distance(f, p), kind().distance(*on_grid), rtol=1e-5
    )

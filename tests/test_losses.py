"""Each loss against float64 NumPy, a closed form, finite differences, and degenerate pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nstyle import losses

SHAPES = st.tuples(st.integers(2, 6), st.integers(2, 6), st.integers(1, 5))
VALUES = st.floats(-10, 10, width=32)


def arrays(shape):
    return hnp.arrays(np.float32, shape, elements=VALUES)


CONTENT_REFERENCE = {
    "half_sum": lambda d: (d**2).sum() / 2,
    "sum": lambda d: (d**2).sum(),
    "mean": lambda d: (d**2).mean(),
}
GRAM_DIVISOR = {"none": lambda h, w, c: 1, "positions": lambda h, w, c: h * w}
GRAM_DIVISOR["size"] = lambda h, w, c: h * w * c
STYLE_REFERENCE = {
    "sum": lambda d, pixels: (d**2).sum(),
    "mean": lambda d, pixels: (d**2).mean(),
    "gatys": lambda d, pixels: (d**2).sum() / (4 * len(d) ** 2),
    "image": lambda d, pixels: (d**2).sum() / (4 * 9 * pixels**2),
}


def tv_reference(image, kind):
    dx, dy = np.diff(image, axis=1), np.diff(image, axis=0)
    match kind:
        case "power":
            return ((dx[:-1] ** 2 + dy[:, :-1] ** 2) ** 1.25).sum()
        case "half_squared":
            return ((dx**2).sum() + (dy**2).sum()) / 2
        case "mean_squared":
            return (dx**2).mean() + (dy**2).mean()
        case "l1":
            return np.abs(dx).sum() + np.abs(dy).sum()
    slopes = np.hypot(dx[:-1], dy[:, :-1])
    if kind == "isotropic":
        return (np.hypot(slopes, 1 / 255) - 1 / 255).sum()
    return scipy.special.huber(0.05, slopes).sum() / 0.05


@pytest.mark.parametrize("reduction", losses.CONTENT_REDUCTIONS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), shape=SHAPES)
def test_content_loss_equals_numpy(reduction, data, shape):
    f, p = data.draw(arrays(shape)), data.draw(arrays(shape))
    expected = CONTENT_REFERENCE[reduction](f.astype(np.float64) - p)
    found = losses.content_loss(jnp.asarray(f), jnp.asarray(p), reduction)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalization", losses.GRAM_NORMALIZATIONS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), shape=SHAPES)
def test_gram_matrix_equals_numpy_and_is_positive(normalization, data, shape):
    f = data.draw(arrays(shape))
    expected = np.einsum("hwi,hwj->ij", f.astype(np.float64), f) / GRAM_DIVISOR[normalization](
        *shape
    )
    found = np.asarray(losses.gram_matrix(jnp.asarray(f), normalization))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found, found.T)
    assert np.linalg.eigvalsh(found.astype(np.float64)).min() >= -1e-4 * max(1, np.abs(found).max())


@settings(max_examples=25, deadline=None)
@given(data=st.data(), shape=SHAPES)
def test_gram_matrix_forgets_positions(data, shape):
    f = data.draw(arrays(shape))
    shuffled = np.random.default_rng(0).permutation(f.reshape(-1, shape[2])).reshape(shape)
    np.testing.assert_allclose(
        losses.gram_matrix(jnp.asarray(f)),
        losses.gram_matrix(jnp.asarray(shuffled)),
        rtol=1e-4,
        atol=1e-3,
    )


@pytest.mark.parametrize("reduction", losses.STYLE_REDUCTIONS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), channels=st.integers(1, 6))
def test_style_loss_equals_numpy(reduction, data, channels):
    g, a = data.draw(arrays((channels, channels))), data.draw(arrays((channels, channels)))
    expected = STYLE_REFERENCE[reduction](g.astype(np.float64) - a, 35)
    found = losses.style_loss(jnp.asarray(g), jnp.asarray(a), reduction, pixels=35)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_style_loss_is_the_papers_formula(random):
    """E_l = sum (G - A)^2 / (4 N^2 M^2) with raw Gram matrices, for pictures of equal size."""
    f, s = (random.normal(size=(4, 5, 3)).astype(np.float32) for _ in range(2))
    n, m = 3, 20
    raw = [x.reshape(m, n).astype(np.float64).T @ x.reshape(m, n) for x in (f, s)]
    expected = ((raw[0] - raw[1]) ** 2).sum() / (4 * n**2 * m**2)
    grams = [losses.gram_matrix(jnp.asarray(x), "positions") for x in (f, s)]
    np.testing.assert_allclose(losses.style_loss(*grams, "gatys"), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", losses.TOTAL_VARIATIONS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), height=st.integers(2, 6), width=st.integers(2, 6))
def test_total_variation_equals_numpy(kind, data, height, width):
    image = data.draw(arrays((height, width, 3)))
    found = losses.total_variation(jnp.asarray(image), kind)
    np.testing.assert_allclose(
        found, tv_reference(image.astype(np.float64), kind), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("power", 3 * 7 * 5 * 2**1.25),
        ("half_squared", 3 * (7 * 6 + 8 * 5) / 2),
        ("mean_squared", 2.0),
        ("l1", 3 * (7 * 6 + 8 * 5)),
        ("isotropic", 3 * 7 * 5 * ((2 + 1 / 255**2) ** 0.5 - 1 / 255)),
        ("huber", 3 * 7 * 5 * (2**0.5 - 0.025)),
    ],
)
def test_total_variation_of_a_checkerboard(kind, expected):
    board = np.indices((8, 6)).sum(axis=0) % 2
    image = jnp.asarray(np.repeat(board[..., None], 3, axis=2), jnp.float32)
    np.testing.assert_allclose(losses.total_variation(image, kind), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["isotropic", "huber"])
def test_where_total_variation_bends_is_in_parts_of_white(kind, random):
    """So that it is the same function of the picture on either scale, but for the unit."""
    image = jnp.asarray(0.3 + 0.1 * random.random((5, 6, 3)), jnp.float32)
    on_255 = losses.total_variation(255 * image, kind, 255.0)
    np.testing.assert_allclose(on_255, 255 * losses.total_variation(image, kind), rtol=1e-4)


def every_loss():
    target = jnp.asarray(np.random.default_rng(3).random((5, 6, 3)), jnp.float32)
    for reduction in losses.CONTENT_REDUCTIONS:
        yield (
            f"content-{reduction}",
            lambda x, r=reduction: losses.content_loss(x, target, r),
        )
    for normalization in losses.GRAM_NORMALIZATIONS:
        for reduction in losses.STYLE_REDUCTIONS:

            def style(x, n=normalization, r=reduction):
                gram = losses.gram_matrix(target, n)
                return losses.style_loss(losses.gram_matrix(x, n), gram, r, x.shape[0] * x.shape[1])

            yield f"style-{normalization}-{reduction}", style
    for kind in losses.TOTAL_VARIATIONS:
        yield f"tv-{kind}", lambda x, k=kind: losses.total_variation(x, k)


LOSSES = dict(every_loss())


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_agrees_with_finite_differences(name, random):
    """Along a random direction, in float64, to 1e-6."""
    with jax.enable_x64(True):
        x, v = (jnp.asarray(random.random((5, 6, 3))) for _ in range(2))
        step = 1e-5
        loss = LOSSES[name]
        numeric = (loss(x + step * v) - loss(x - step * v)) / (2 * step)
        np.testing.assert_allclose(jnp.vdot(jax.grad(loss)(x), v), numeric, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("grey", [0.0, 0.5])
def test_flat_and_black_pictures_have_finite_losses_and_gradients(name, grey):
    image = jnp.full((5, 6, 3), grey)
    value, gradient = jax.value_and_grad(LOSSES[name])(image)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_jit_equals_eager(name, random):
    image = jnp.asarray(random.random((5, 6, 3)), jnp.float32)
    np.testing.assert_allclose(jax.jit(LOSSES[name])(image), LOSSES[name](image), rtol=1e-5)

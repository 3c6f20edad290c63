"""The network with fewer bits: features and losses stay near those of float32, sums keep theirs."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import features_of, prepare, value_and_grad

from nstyle import images
from nstyle.config import compose
from nstyle.errors import NstyleError
from nstyle.losses import Euclidean, gram_matrix
from nstyle.objective import LossWeights, Structure
from nstyle.objective.problems import equal_weights, objective
from nstyle.runs.job import build, picture_of, run
from nstyle.runs.planning import plan

STRUCTURE = Structure()


@pytest.fixture(scope="module")
def pair(pictures):
    return [
        jnp.asarray(images.load(pictures / f"{name}.png", "32x32")) for name in ("content", "style")
    ]


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 1e-6), ("bfloat16", 2e-2)])
def test_features_are_near(pair, vgg16, precision, tolerance):
    """Relative to the norm of a layer's features; TF32 is float32 on a CPU."""
    layers = STRUCTURE.layers
    params = jax.tree.map(jnp.asarray, vgg16.params)
    wanted = features_of(STRUCTURE, params, pair[0], layers)
    found = features_of(replace(STRUCTURE, precision=precision), params, pair[0], layers)
    for layer in layers:
        assert found[layer].dtype == ("bfloat16" if precision == "bfloat16" else "float32")
        apart = jnp.linalg.norm(found[layer].astype(jnp.float32) - wanted[layer])
        assert apart < tolerance * jnp.linalg.norm(wanted[layer])
        assert (apart > 0) == (precision == "bfloat16")


@pytest.mark.slow  # a processor has no bfloat16 of its own
def test_losses_and_gradient_are_near(pair, vgg16):
    """Of a noisy picture, each term to 2 %, the gradient's direction to 3 degrees."""
    noise = jax.random.uniform(jax.random.key(0), (32, 32, 3))
    weights = LossWeights(
        equal_weights(STRUCTURE.content_layers, 1.0), equal_weights(STRUCTURE.style_layers, 1e5)
    )

    def evaluated(precision):
        structure = replace(STRUCTURE, precision=precision)
        problem = prepare(structure, vgg16.params, weights, *pair)
        return value_and_grad(structure, noise, problem)

    (loss, terms), gradient = evaluated("bfloat16")
    (wanted, wanted_terms), wanted_gradient = evaluated("float32")
    for one, other in zip(jax.tree.leaves(terms), jax.tree.leaves(wanted_terms), strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, rtol=2e-2)
    np.testing.assert_allclose(loss, wanted, rtol=2e-2)
    assert gradient.dtype == jnp.float32
    cosine = jnp.vdot(gradient, wanted_gradient) / (
        jnp.linalg.norm(gradient) * jnp.linalg.norm(wanted_gradient)
    )
    assert cosine > np.cos(np.radians(3))


def test_sums_keep_float32():
    """4,097, which is counted here, is no number of bfloat16."""
    ones = jnp.ones((1, 4097, 2), jnp.bfloat16)
    np.testing.assert_array_equal(gram_matrix(ones, "none"), np.full((2, 2), 4097.0, np.float32))
    assert Euclidean("sum").distance(ones, 0 * ones) == 2 * 4097


def test_float32_is_float32_on_every_device(pair, vgg16):
    """GPUs form products of float32 with fewer bits unless told; forward and back they are told."""
    weights = LossWeights(
        equal_weights(STRUCTURE.content_layers, 1.0), equal_weights(STRUCTURE.style_layers, 1e5)
    )

    def program(precision):
        structure = replace(STRUCTURE, precision=precision)
        problem = prepare(structure, vgg16.params, weights, *pair)
        gradient = jax.grad(objective(structure), has_aux=True)
        return str(jax.make_jaxpr(gradient)(pair[0], problem)).split("precision=")[1:]

    products = program("float32")
    assert len(products) > 2 * 13
    assert all("HIGHEST" in product[:60] for product in products)
    assert sum("HIGHEST" in product[:60] for product in program("tf32")) < len(products) / 2


@pytest.mark.slow
def test_a_run_with_fewer_bits(pictures):
    settings = {
        **{name: str(pictures / f"{name}.png") for name in ("content", "style")},
        **{"size": 32, "steps": 3, "precision": "bfloat16"},
    }
    job = build(plan(compose(**settings)))
    steps = list(run(job))
    assert steps[-1].best_value < 0.9 * steps[0].value
    assert picture_of(steps[-1], job).dtype == np.float32
    with pytest.raises(NstyleError, match="precision: bfloat16 is not for tiles"):
        plan(compose(**settings, tile=32))
    with pytest.raises(NstyleError, match="unknown value 'float16'"):
        plan(compose(**(settings | {"precision": "float16"})))

"""The total loss and its gradient against PyTorch and against finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import value_and_grad

from nstyle.errors import NstyleError
from nstyle.networks import POOLINGS
from nstyle.objective import LossWeights, Structure, Terms, evaluate, weighted_total
from nstyle.objective.problems import equal_weights, objective, prepare


def problem_of(structure, params, reference, style_weight=1e5):
    pictures = [jnp.asarray(reference[name], jnp.float32) / 255 for name in ("content", "style")]
    weights = LossWeights(
        equal_weights(structure.content_layers, 1.0) if structure.content_layers else {},
        equal_weights(structure.style_layers, style_weight) if structure.style_layers else {},
    )
    return prepare(structure, params, weights, *pictures)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_terms_and_gradient_equal_pytorch(pooling, vgg16, torch_reference):
    """Terms to 1e-5, the gradient of the total to 1e-4 (norm of the difference over norm)."""
    structure = Structure(pooling=POOLINGS[pooling]())
    problem = problem_of(structure, vgg16.params, torch_reference)
    image = jnp.asarray(torch_reference["noise"])
    (total, terms), gradient = value_and_grad(structure, image, problem)
    found = [
        terms.content["conv4_2"],
        *(terms.style[layer] for layer in structure.style_layers),
        total,
    ]
    np.testing.assert_allclose(found, torch_reference[f"loss/{pooling}/terms"], rtol=1e-5)
    expected = torch_reference[f"loss/{pooling}/gradient"]
    error = np.linalg.norm(np.asarray(gradient) - expected) / np.linalg.norm(expected)
    assert error < 1e-4


def test_total_is_the_sum_of_terms_times_weights():
    terms = Terms(
        {"conv4_2": jnp.float32(3)},
        {"conv1_1": jnp.float32(5), "conv2_1": jnp.float32(7)},
        jnp.float32(11),
    )
    weights = LossWeights({"conv4_2": 2.0}, {"conv1_1": 1.0, "conv2_1": 10.0}, 0.5)
    assert float(weighted_total(terms, weights)) == 2 * 3 + 5 + 70 + 5.5


def test_own_content_and_style_have_no_loss(vgg16, torch_reference):
    structure = Structure()
    picture = jnp.asarray(torch_reference["content"], jnp.float32) / 255
    weights = LossWeights(
        equal_weights(structure.content_layers, 1.0), equal_weights(structure.style_layers, 1e5)
    )
    problem = prepare(structure, vgg16.params, weights, picture, picture)
    total, _ = evaluate(structure, picture, problem)
    assert float(total) < 1e-6


def test_value_range_changes_units_only(vgg16, torch_reference):
    """Content and style terms are those of the same picture; TV follows the units."""
    image = jnp.asarray(torch_reference["noise"])
    found = {}
    for white in (1.0, 255.0):
        structure = Structure(value_range=white)
        problem = problem_of(structure, vgg16.params, torch_reference)
        found[white] = evaluate(structure, white * image, problem)[1]
    np.testing.assert_allclose(
        found[255.0].content["conv4_2"], found[1.0].content["conv4_2"], rtol=1e-4
    )
    np.testing.assert_allclose(found[255.0].tv, 255.0**2 * found[1.0].tv, rtol=1e-4)


@pytest.mark.parametrize("sides", ["content", "style"])
def test_one_side_alone(sides, vgg16, torch_reference):
    """Content reconstruction and texture synthesis: no layers, and no picture, of the other."""
    empty = {"style_layers": ()} if sides == "content" else {"content_layers": ()}
    structure = Structure(**empty)
    problem = problem_of(structure, vgg16.params, torch_reference)
    total, terms = evaluate(structure, jnp.asarray(torch_reference["noise"]), problem)
    assert float(total) > 0
    assert not getattr(terms, "style" if sides == "content" else "content")


def test_a_change_of_numbers_does_not_compile_again(vgg16, torch_reference):
    structure = Structure(content_layers=("conv2_2",), style_layers=("conv1_1", "conv2_1"))
    compiled = jax.jit(functools.partial(evaluate, structure))
    image = jnp.asarray(torch_reference["noise"])
    for style_weight in (1e3, 1e4, 1e5):
        compiled(image, problem_of(structure, vgg16.params, torch_reference, style_weight))
    assert compiled._cache_size() == 1


def test_equal_structures_are_one_objective():
    spelt = Structure(content_layers=("block4_conv2",))
    assert spelt == Structure()
    assert objective(spelt) is objective(Structure())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"network": "vgg17"}, "did you mean 'vgg1[69]'"),
        ({"style_layers": ("conv1_1", "block1_conv1")}, "named twice"),
        ({"style_layers": (), "content_layers": ()}, "nothing to optimise"),
        ({"tv_kind": "mean_square"}, "did you mean 'mean_squared'"),
    ],
)
def test_wrong_structure_is_refused(options, line):
    with pytest.raises(NstyleError, match=line):
        Structure(**options)


def test_too_small_a_picture_is_refused(vgg16):
    structure = Structure()
    weights = LossWeights({"conv4_2": 1.0}, equal_weights(structure.style_layers, 1.0))
    small = jnp.zeros((15, 40, 3))
    with pytest.raises(NstyleError, match="content: 40 x 15 pixels are too few .* 16 x 16"):
        prepare(structure, vgg16.params, weights, small, small)

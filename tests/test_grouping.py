"""Layer subsets share a compiled step where that costs less than a compilation."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from nstyle.losses import GramMatrix
from nstyle.networks import Maximum
from nstyle.objective import Structure
from nstyle.runs.grouping import (
    COMPILE_SECONDS,
    OPERATIONS_PER_SECOND,
    operations_per_pixel,
    shared,
)

FULL = Structure()
WITHOUT = [
    replace(FULL, style_layers=tuple(name for name in FULL.style_layers if name != left_out))
    for left_out in FULL.style_layers
]


def test_leaving_layers_out_needs_no_compilation_at_small_sizes():
    assert shared([FULL, *WITHOUT], 64 * 64, 100) == [FULL] * 6
    assert shared(WITHOUT, 64 * 64, 100) == [FULL] * 5, "the union is used though no run has it"


def test_a_shallow_structure_keeps_its_own_step_where_depth_costs_more():
    shallow = replace(FULL, content_layers=(), style_layers=("conv1_1",))
    pixels, steps = 1024 * 1024, 500
    assert shared([FULL, shallow], pixels, steps) == [FULL, shallow]
    extra = (operations_per_pixel(FULL) - operations_per_pixel(shallow)) * pixels * steps
    assert extra / OPERATIONS_PER_SECOND > COMPILE_SECONDS


def test_other_differences_are_never_joined():
    others = [replace(FULL, pooling=Maximum()), replace(FULL, style_loss=GramMatrix("none"))]
    assert shared([FULL, *others], 32 * 32, 1) == [FULL, *others]


def test_networks_with_other_layers_are_never_joined():
    """AlexNet costs a fifteenth of VGG-16, most of it beyond its first layer."""
    alexnet = Structure(network="alexnet", content_layers=("conv3",), style_layers=("conv1",))
    assert shared([FULL, alexnet], 64 * 64, 10) == [FULL, alexnet]
    assert 0.02 < operations_per_pixel(alexnet) / operations_per_pixel(FULL) < 0.1


def test_layers_of_a_union_are_in_the_order_of_the_network():
    parts = [
        Structure(content_layers=("conv3_2",), style_layers=("conv5_1", "conv1_1")),
        Structure(content_layers=("conv2_2",), style_layers=("conv2_1",)),
    ]
    union = Structure(
        content_layers=("conv2_2", "conv3_2"), style_layers=("conv1_1", "conv2_1", "conv5_1")
    )
    assert shared(parts, 32 * 32, 1) == [union, union]


@pytest.mark.parametrize("structure", [FULL, Structure(style_layers=("conv2_1",))])
def test_operations_are_of_the_order_that_xla_counts(structure, vgg16):
    """The estimate against XLA's own count for a loss and its gradient, within 40 %."""
    from nstyle.objective import LossWeights
    from nstyle.objective.problems import objective, prepare

    image = jnp.full((64, 64, 3), 0.5)
    weights = LossWeights(
        dict.fromkeys(structure.content_layers, 1.0), dict.fromkeys(structure.style_layers, 1.0)
    )
    problem = prepare(structure, vgg16.params, weights, image, image)
    compiled = jax.jit(jax.value_and_grad(objective(structure), has_aux=True))
    counted = compiled.lower(image, problem).compile().cost_analysis()["flops"]
    assert operations_per_pixel(structure) * 64 * 64 == pytest.approx(counted, rel=0.4)

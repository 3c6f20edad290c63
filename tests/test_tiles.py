"""Tiled loss, terms, gradient and targets against those of the whole picture.

Errors are relative, those of arrays as the norm of the difference over the norm: at most 1e-5. All
terms are weighted to be 1 at the tested picture, so that each has its part in the gradient.
"""

import dataclasses
import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import prepare, value_and_grad
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_networks import random_vgg19

from nstyle.config import compose
from nstyle.errors import NstyleError
from nstyle.losses import (
    MMD,
    Contextual,
    Covariance,
    Euclidean,
    GramMatrix,
    MeanStd,
    SlicedWasserstein,
    Wasserstein,
)
from nstyle.networks import POOLINGS, Average, Each, GeM, Maximum, layer_names, turned
from nstyle.objective import (
    LossWeights,
    Structure,
    blocks,
    content_targets,
    memory,
    style_targets,
    tiles,
)
from nstyle.process import huge_pages
from nstyle.runs.planning import structure_of

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def params(vgg16):
    """VGG-16 with turned kernels, VGG-19 without."""
    vgg19 = jax.tree.map(jnp.asarray, random_vgg19())
    return {"vgg16": turned(vgg16.params, "vgg16"), "vgg19": vgg19}


def smooth(generator, height, width):
    """A picture of soft blobs and fine grain, with differences of all sizes."""
    coarse = np.kron(generator.random((height // 8 + 1, width // 8 + 1, 3)), np.ones((8, 8, 1)))
    grain = generator.normal(0, 0.1, (height, width, 3))
    return np.clip(coarse[:height, :width] + grain, 0, 1).astype(np.float32)


def problem_of(structure, params, shape, generator):
    """A picture and its problem; the style picture has a size of its own."""
    content, image = (smooth(generator, *shape) for _ in range(2))
    weights = LossWeights(
        dict.fromkeys(structure.content_layers, 1.0),
        dict.fromkeys(structure.style_layers, 1.0),
        1.0,
    )
    problem = prepare(structure, params, weights, content, smooth(generator, 40, 56))
    return structure.value_range * image, problem


def check(structure, image, problem, tile):
    """Compares with the whole picture's; all terms that are not zero are weighted to be 1."""
    (_, terms), _ = value_and_grad(structure, image, problem)
    weights = LossWeights(
        *jax.tree.map(lambda term: 1 / jnp.where(term > 0, term, 1), tuple(terms))
    )
    problem = problem._replace(weights=weights)
    expected, expected_gradient = value_and_grad(structure, image, problem)
    found, gradient = tiles.value_and_grad(structure, image, problem, tile)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=TOLERANCE, atol=0), found, expected
    )
    assert gradient.shape == image.shape
    assert difference(gradient, expected_gradient) < TOLERANCE


def difference(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


RECIPES = ["default", "gatys2015", "gatys-code", "johnson-neural-style", "keras", "momo"]
DEEP = ["default", "keras"]  # between them both networks, poolings and families of pixels


def recipe_structure(recipe):
    config = compose(recipe=recipe)
    return structure_of(config, config.tuned_pixels or "torchvision")


@pytest.mark.parametrize(
    "recipe",
    [
        recipe if recipe in DEEP else pytest.param(recipe, marks=pytest.mark.slow)
        for recipe in RECIPES
    ],
)
def test_recipes(recipe, params, random):
    """All five blocks."""
    structure = recipe_structure(recipe)
    image, problem = problem_of(structure, params[structure.network], (97, 61), random)
    check(structure, image, problem, tile=40)


@pytest.mark.parametrize("recipe", ["gatys2015", "gatys-code", "johnson-neural-style"])
def test_reductions_of_recipes(recipe, params, random):
    """Those that `default` and `keras` have not, in two blocks."""
    structure = dataclasses.replace(
        recipe_structure(recipe), content_layers=("conv2_1",), style_layers=("conv1_1", "conv2_1")
    )
    image, problem = problem_of(structure, params[structure.network], (43, 30), random)
    check(structure, image, problem, tile=16)


@pytest.mark.parametrize(
    ("pooling", "content", "style"),
    [
        ("max", ("conv3_2",), ()),
        ("max", (), ("conv1_2", "conv3_1")),
        ("avg", ("conv2_1", "conv1_1"), ("conv2_1",)),
        ("avg", ("conv1_1",), ()),
        ("l2", ("conv2_2",), ("conv1_1", "conv3_1")),
    ],
)
def test_layer_sets(pooling, content, style, params, random):
    """One side alone, blocks without a loss, a layer with both losses, the first layer alone."""
    structure = Structure(pooling=POOLINGS[pooling](), content_layers=content, style_layers=style)
    image, problem = problem_of(structure, params["vgg16"], (37, 26), random)
    check(structure, image, problem, tile=12)


LOCAL = [name for name, pooling in POOLINGS.items() if pooling.is_local]


@pytest.mark.slow
@pytest.mark.parametrize(
    "pooling", [*(POOLINGS[name](scale=1.3) for name in LOCAL), Each(pools=(Maximum(), GeM(4.0)))]
)
def test_every_local_pooling(pooling, params, random):
    """With and without features of its own that the way back computes again."""
    structure = Structure(
        pooling=pooling, content_layers=("conv2_1",), style_layers=("conv1_1", "conv3_1")
    )
    image, problem = problem_of(structure, params["vgg16"], (27, 22), random)
    check(structure, image, problem, tile=12)


@pytest.mark.slow
@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_size_tile_and_layers(data, params):
    layers = layer_names("vgg16")[:3]
    structure = Structure(
        pooling=data.draw(st.sampled_from([Average(), Maximum()])),
        content_layers=tuple(data.draw(st.sets(st.sampled_from(layers), max_size=2))),
        style_layers=tuple(data.draw(st.sets(st.sampled_from(layers), min_size=1, max_size=2))),
    )
    shape = data.draw(st.tuples(st.integers(2, 30), st.integers(2, 30)))
    image, problem = problem_of(structure, params["vgg16"], shape, np.random.default_rng(1))
    check(structure, image, problem, data.draw(st.integers(4, 40)))


def test_luminance_alone(params, random):
    """The gradient is a colour's share of luminance; so are the targets."""
    structure = Structure(
        luminance=True, content_layers=("conv2_1",), style_layers=("conv1_1",), tv_kind="huber"
    )
    image, problem = problem_of(structure, params["vgg16"], (30, 26), random)
    check(structure, image, problem, tile=12)
    found = tiles.content_targets(structure, params["vgg16"], image, 12)["conv2_1"]
    expected = content_targets(structure, params["vgg16"], jnp.asarray(image))["conv2_1"]
    assert difference(found, expected) < TOLERANCE


def test_max_pooling_of_ties(params, random):
    """In a flat picture all values of a window are alike; the gradient takes the same one."""
    structure = Structure(pooling=Maximum(), content_layers=(), style_layers=("conv2_1",))
    image, problem = problem_of(structure, params["vgg16"], (30, 44), random)
    check(structure, np.full_like(image, 0.3), problem, tile=16)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["avg", "max", "l2"])
def test_a_larger_picture(pooling, params, random):
    structure = Structure(pooling=POOLINGS[pooling]())
    image, problem = problem_of(structure, params["vgg16"], (389, 517), random)
    check(structure, image, problem, tile=128)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_targets(pooling, params, random):
    structure = Structure(
        pooling=POOLINGS[pooling](),
        content_layers=("conv3_2", "conv1_1"),
        style_layers=("conv2_2", "conv1_1"),
        value_range=255.0,
    )
    image = 255.0 * smooth(random, 61, 97)
    for tiled, whole in (
        (tiles.content_targets, content_targets),
        (tiles.style_targets, style_targets),
    ):
        found = tiled(structure, params["vgg16"], image, 24)
        expected = jax.jit(whole, static_argnums=0)(structure, params["vgg16"], image)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for own, values in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert own.dtype == values.dtype
            assert difference(own, values) < TOLERANCE


def test_a_change_of_reduction_does_not_compile_again(params, random):
    structure = Structure(content_layers=("conv1_1",), style_layers=("conv1_1",))
    compiled = set()
    for reduction in ("mean", "sum"):
        structure = dataclasses.replace(
            structure,
            content_loss=Euclidean(reduction),
            style_loss=GramMatrix(reduction=reduction),
        )
        image, problem = problem_of(structure, params["vgg16"], (16, 16), random)
        tiles.value_and_grad(structure, image, problem, 16)
        compiled.add((blocks.forward_tile._cache_size(), blocks.backward_tile._cache_size()))
    assert len(compiled) == 1


def test_targets_of_no_layers(params, random):
    image = smooth(random, 20, 20)
    content = Structure(content_layers=("conv1_1",), style_layers=())
    style = Structure(content_layers=(), style_layers=("conv1_1",))
    assert tiles.style_targets(content, params["vgg16"], image, 8) == {}
    assert tiles.content_targets(style, params["vgg16"], image, 8) == {}


def test_inputs_are_left_alone(params, random):
    """Cotangents take the place of maps, but not of the picture or of targets."""
    structure = Structure(content_layers=("conv2_1",), style_layers=("conv1_1",))
    image, problem = problem_of(structure, params["vgg16"], (24, 24), random)
    content = {layer: np.array(values) for layer, values in problem.targets.content.items()}
    problem = problem._replace(targets=problem.targets._replace(content=content))
    before = image.copy(), content["conv2_1"].copy()
    tiles.value_and_grad(structure, image, problem, 8)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(content["conv2_1"], before[1])


def test_targets_of_another_size_are_refused(params, random):
    structure = Structure(content_layers=("conv2_1",), style_layers=())
    image, problem = problem_of(structure, params["vgg16"], (24, 24), random)
    with pytest.raises(NstyleError, match="conv2_1 has 10 x 12 positions, its target 12 x 12"):
        tiles.value_and_grad(structure, image[:, :20], problem, 8)


def test_too_small_a_tile_is_refused(params, random):
    with pytest.raises(NstyleError, match="tile: 1 is not at least 2 pixels"):
        tiles.style_targets(Structure(), params["vgg16"], smooth(random, 32, 32), 1)


def test_estimate_counts_maps():
    """Of `Structure()`: 12 + 120 + 17 bytes a pixel, and 32 of the content target."""
    sizes = [(2048, 2048), (4096, 4096)]
    small, large = (memory.estimate(Structure(), size, 64) for size in sizes)
    band = 4 * 64 * (32 + 14 + 2 * 2) * 1024  # at most: 48 rows of the second block
    assert 0 <= large - small - memory.HEADROOM * 181 * 3 * 2048**2 <= band


@pytest.mark.slow
@pytest.mark.parametrize("tile", [128, 512])
def test_estimate_is_near_the_measured_peak(tile):
    """In a fresh process, as the allocator keeps what others have freed.

    The bound that a run trusts is the upper one; below it, XLA's own choice of
    convolution scratch moves the peak by a third from one processor to another.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("the system tells no peak of a process alone: ru_maxrss begins at the parent's")
    program = f"""
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from nstyle.objective import memory, tiles
from nstyle.process import huge_pages
from nstyle.networks import weights
from nstyle.objective import LossWeights, Problem, Structure, Targets
huge_pages.keep_for_tiles()
structure = Structure(content_layers=("conv2_2",), style_layers=("conv1_1", "conv2_1"))
params = jax.tree.map(jnp.asarray, weights.load().params)
image = np.random.default_rng(0).random((768, 1024, 3), np.float32)
content = tiles.content_targets(structure, params, image, {tile})
style = tiles.style_targets(structure, params, image, {tile})
weights = LossWeights({{"conv2_2": 1.0}}, {{"conv1_1": 1.0, "conv2_1": 1.0}}, 1.0)
tiles.value_and_grad(structure, image, Problem(params, Targets(content, style), weights), {tile})
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
peak = 1024 * int(status["VmHWM"].removesuffix("kB"))
print(peak, memory.estimate(structure, image.shape, {tile}))
"""
    command, environment = [sys.executable, "-c", program], os.environ | huge_pages.ENVIRONMENT
    output = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    ).stdout
    peak, estimated = map(int, output.split())
    assert 0.5 < peak / estimated < 1.1


def test_tile_for_keeps_to_the_budget():
    structure, shape = Structure(), (3000, 4000)
    sizes = {tile: memory.estimate(structure, shape, tile) for tile in memory.TILES}
    assert sorted(sizes.values(), reverse=True) == list(sizes.values())
    assert memory.tile_for(structure, shape, 2**40) == max(memory.TILES)
    for tile, size in sizes.items():
        assert memory.tile_for(structure, shape, size) == tile


def test_no_tile_fits():
    """The size that the line names fits indeed, and a slightly larger one does not."""
    structure, budget = Structure(), 2**30
    with pytest.raises(NstyleError, match="4000 x 3000 pixels take .* at most") as refused:
        memory.tile_for(structure, (3000, 4000), budget)
    width, height = map(int, re.search(r"at most (\d+) x (\d+) fit", str(refused.value)).groups())
    assert abs(width / height - 4 / 3) < 0.01
    assert memory.tile_for(structure, (height, width), budget) == min(memory.TILES)
    with pytest.raises(NstyleError, match=f"at most {width} x {height} fit"):
        memory.tile_for(structure, (height + 3, width + 4), budget)
    with pytest.raises(NstyleError, match="no size fits"):
        memory.tile_for(structure, (3000, 4000), 2**20)


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss", [Covariance(), MeanStd(), Wasserstein(), MMD("linear"), MMD("polynomial")], ids=repr
)
def test_losses_of_moments_equal_those_of_the_whole(loss, params, random):
    structure = Structure(
        content_layers=("conv2_2",), style_layers=("conv1_1", "conv3_1"), style_loss=loss
    )
    image, problem = problem_of(structure, params["vgg16"], (44, 52), random)
    check(structure, image, problem, tile=16)


@pytest.mark.parametrize(
    ("losses", "line"),
    [
        ({"style_loss": SlicedWasserstein()}, "style_loss: sliced_wasserstein compares positions"),
        (
            {"style_loss": MMD("gaussian")},
            "work with gram, covariance, mean_std, mmd, wasserstein, each at its default options",
        ),
        ({"content_loss": Contextual()}, "content_loss: memory and tile work with euclidean alone"),
    ],
)
def test_losses_of_positions_are_refused(losses, line, params, random):
    structure = Structure(content_layers=("conv1_1",), style_layers=("conv1_1",), **losses)
    image, problem = problem_of(structure, params["vgg16"], (32, 32), random)
    with pytest.raises(NstyleError, match=line):
        tiles.value_and_grad(structure, image, problem, 16)

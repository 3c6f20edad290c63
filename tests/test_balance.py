"""Terms without a unit: references against NumPy, known answers, tiles, batches, records."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from compiled import evaluate, features_of, prepare, value_and_grad
from test_networks import random_vgg19
from test_tiles import smooth

from nstyle import images
from nstyle.config import compose, group_options
from nstyle.losses import (
    MMD,
    STYLE_LOSSES,
    Contextual,
    Cosine,
    Covariance,
    Rescaled,
    SelfSimilarity,
    Wasserstein,
)
from nstyle.networks import layer_names
from nstyle.networks.weights import load
from nstyle.objective import LossWeights, Structure, tiles
from nstyle.objective.balance import CONTENT_FLOOR, STYLE_FLOOR
from nstyle.objective.problems import equal_weights, objective
from nstyle.objective.terms import content_distances
from nstyle.runs import job, planning, trace

STYLES = [*(loss() for loss in STYLE_LOSSES.values()), MMD(kernel="gaussian")]
NETWORK_LAYERS = {
    "vgg16": ("conv1_1", "conv2_1", "conv3_1"),
    "vgg19": ("conv1_2", "conv2_1", "conv2_2"),
    "alexnet": layer_names("alexnet"),
}


@pytest.fixture(scope="module")
def params(vgg16):
    return {
        "vgg16": vgg16.params,
        "vgg19": random_vgg19(),
        "alexnet": load("lpips", "alexnet").params,
    }


@pytest.fixture
def pair(random):
    """A photograph, a painting and another picture: soft blobs, not of the same statistics."""
    photograph, painting, other = (
        smooth(random, 48, 64),
        smooth(random, 56, 40),
        smooth(random, 48, 64),
    )
    return photograph, np.clip(1.6 * painting - 0.2, 0, 1)[..., ::-1].copy(), other


def problem_of(structure, params, photograph, painting):
    weights = LossWeights(
        equal_weights(structure.content_layers, 1.0) if structure.content_layers else {},
        equal_weights(structure.style_layers, 1.0) if structure.style_layers else {},
    )
    return prepare(structure, params[structure.network], weights, photograph, painting, True)


@pytest.mark.parametrize(
    ("loss", "network", "layers"),
    [
        *(
            pytest.param(
                loss, network, layers, marks=() if network == "vgg16" else pytest.mark.slow
            )
            for loss in STYLES
            for network, layers in NETWORK_LAYERS.items()
        ),
        (STYLES[0], "vgg16", Structure().style_layers),
    ],
    ids=repr,
)
def test_every_layer_has_the_same_share_at_the_photograph(loss, network, layers, params, pair):
    """1 / number of layers each, to 1e-5, for every style loss and network."""
    structure = Structure(
        network=network, content_layers=(layers[-2],), style_layers=layers, style_loss=loss
    )
    photograph, painting, _ = pair
    problem = problem_of(structure, params, photograph, painting)
    total, terms = evaluate(structure, photograph, problem)
    np.testing.assert_allclose(list(terms.style.values()), 1.0, atol=1e-5)
    assert abs(float(total) - 1.0) < 1e-5
    assert abs(float(terms.content[layers[-2]])) < 1e-5


def test_references_and_total_equal_numpy(params, pair):
    """Euclidean content and Gram matrices in float64, to 1e-5."""
    structure = Structure(style_layers=("conv1_1", "conv3_1"))
    photograph, painting, other = pair
    problem = problem_of(structure, params, photograph, painting)
    of_photograph, of_painting, of_other = (
        {
            layer: np.asarray(found, np.float64).reshape(-1, found.shape[-1])
            for layer, found in features_of(
                structure, problem.params, picture, structure.layers
            ).items()
        }
        for picture in pair
    )

    def gram(features):
        return features.T @ features / features.size

    def distance(first, second, layer):
        return np.sum((gram(first[layer]) - gram(second[layer])) ** 2)

    variance = of_photograph["conv4_2"].var(axis=0).mean()
    assert float(problem.references.content["conv4_2"]) == pytest.approx(variance, rel=1e-5)
    left = []
    for layer in structure.style_layers:
        reference = distance(of_photograph, of_painting, layer)
        assert float(problem.references.style[layer][0]) == pytest.approx(reference, rel=1e-5)
        left.append(distance(of_other, of_painting, layer) / reference)
    unexplained = np.mean((of_other["conv4_2"] - of_photograph["conv4_2"]) ** 2) / variance
    (total, terms), _ = value_and_grad(structure, other, problem)
    assert float(terms.content["conv4_2"]) == pytest.approx(unexplained, rel=1e-5)
    assert float(total) == pytest.approx(unexplained + np.mean(left), rel=1e-5)


@pytest.mark.parametrize("loss", [Rescaled(), Cosine(), SelfSimilarity(), Contextual()], ids=repr)
def test_content_of_a_flat_picture_is_one(loss, params, pair):
    """By features that are everywhere the photograph's mean, whatever the loss; to 1e-4.

    Of self-similarity to 0.3: equal features differ by rounding, and shares of that are large.
    """
    structure = Structure(style_layers=(), content_loss=loss)
    problem = problem_of(structure, params, *pair[:2])
    flat = {
        layer: jnp.broadcast_to(jnp.mean(target, axis=(0, 1)), target.shape)
        for layer, target in problem.targets.content.items()
    }
    own = content_distances(structure, flat, problem)["conv4_2"]
    tolerance = 0.3 if isinstance(loss, SelfSimilarity) else 1e-4
    assert float(own / problem.references.content["conv4_2"]) == pytest.approx(1.0, rel=tolerance)


def test_gradient_equals_finite_differences(params, pair):
    """Along a direction, by central differences, to 1e-2."""
    structure = Structure(style_layers=("conv1_1", "conv2_1"), content_layers=("conv2_2",))
    photograph, painting, other = pair
    problem = problem_of(structure, params, photograph, painting)
    loss = jax.jit(lambda image: objective(structure)(image, problem)[0])
    gradient = jax.grad(loss)(jnp.asarray(other))
    direction = gradient / jnp.linalg.norm(gradient)
    step = 0.05
    slope = (loss(other + step * direction) - loss(other - step * direction)) / (2 * step)
    assert float(slope) == pytest.approx(float(jnp.linalg.norm(gradient)), rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("loss", STYLES, ids=repr)
def test_a_painting_that_is_the_photograph_has_a_floor(loss, params, pair):
    """Nothing is divided by nothing: terms are finite and (nearly) zero where the start is."""
    structure = Structure(style_layers=("conv1_1", "conv3_1"), style_loss=loss)
    photograph = pair[0][:32, :32]  # so few positions that none is left out
    problem = problem_of(structure, params, photograph, photograph)
    (total, terms), gradient = value_and_grad(structure, photograph, problem)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose([*terms.style.values(), total], 0.0, atol=2e-3)
    assert all(float(own[0]) > 0 for own in problem.references.style.values())


def test_floors_are_parts_of_what_a_picture_without_features_costs(params, pair):
    structure = Structure(style_layers=("conv3_1",))
    photograph = pair[0]
    problem = problem_of(structure, params, photograph, photograph)
    energy = np.sum(np.square(np.asarray(problem.targets.style["conv3_1"][0], np.float64)))
    found = float(problem.references.style["conv3_1"][0])
    assert found == pytest.approx(STYLE_FLOOR * energy, rel=1e-5)
    flat = np.full((16, 16, 3), 0.5, np.float32)  # conv5_1 has one position: no variance
    structure = Structure(content_layers=("conv5_1",), style_layers=())
    problem = problem_of(structure, params, flat, flat)
    energy = np.mean(np.square(np.asarray(problem.targets.content["conv5_1"], np.float64)))
    found = float(problem.references.content["conv5_1"])
    assert found == pytest.approx(CONTENT_FLOOR * energy, rel=1e-4)


def test_black_photograph_and_painting(params):
    black = np.zeros((32, 32, 3), np.float32)
    structure = Structure()
    problem = problem_of(structure, params, black, black)
    (total, _), gradient = value_and_grad(structure, black, problem)
    assert np.isfinite([total, *np.ravel(gradient)]).all()


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["zeros", "replicate", "reflect"])
@pytest.mark.parametrize("loss", [None, Covariance(), Wasserstein(), MMD()], ids=repr)
def test_tiles_have_the_same_references_and_numbers(loss, padding, params, pair):
    """Whole against tiles of 24 pixels: 1e-5, the gradient as the norm of the difference."""
    options = {} if loss is None else {"style_loss": loss}
    layers = ("conv1_1", "conv2_1", "conv3_1")
    structure = Structure(
        content_layers=("conv3_2",), style_layers=layers, padding=padding, **options
    )
    photograph, painting, other = pair
    problem = problem_of(structure, params, photograph, painting)
    found = tiles.references(structure, problem, photograph, 24)
    for own, whole in zip(jax.tree.leaves(found), jax.tree.leaves(problem.references), strict=True):
        assert float(own) == pytest.approx(
            float(whole), rel=1e-4 if loss == Wasserstein() else 1e-5
        )
    (value, terms), gradient = tiles.value_and_grad(structure, other, problem, 24)
    (whole_value, whole_terms), whole = value_and_grad(structure, other, problem)
    assert float(value) == pytest.approx(float(whole_value), rel=1e-4)
    np.testing.assert_allclose(
        jax.tree.leaves(terms), jax.tree.leaves(whole_terms), rtol=2e-4, atol=1e-6
    )
    tolerance = 1e-3 if loss == Wasserstein() else 1e-5
    assert np.linalg.norm(gradient - whole) < tolerance * np.linalg.norm(whole)


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_padding_is_that_of_numpy(mode, params, pair):
    """The first layer, by its products in float64 at the corners and along the borders, to 1e-4."""
    name = {"edge": "replicate", "reflect": "reflect"}[mode]
    picture = pair[0]
    structure = Structure(content_layers=("conv1_1",), style_layers=(), padding=name)
    found = features_of(structure, params["vgg16"], picture, ("conv1_1",))["conv1_1"]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    padded = np.pad((picture - mean) / std, ((1, 1), (1, 1), (0, 0)), mode)
    kernel, bias = (
        np.asarray(params["vgg16"]["conv1_1"][k], np.float64) for k in ("kernel", "bias")
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    expected = np.maximum(np.einsum("hwcij,ijco->hwo", windows, kernel) + bias, 0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_padding_of_strided_convolutions_keeps_their_extent(params, pair):
    structure = {
        padding: Structure(
            network="alexnet", content_layers=("conv5",), style_layers=(), padding=padding
        )
        for padding in ("zeros", "replicate", "reflect")
    }
    pictures = jnp.asarray(images.resize(pair[0], 71, 67))
    found = {
        padding: features_of(own, params["alexnet"], pictures, ("conv1", "conv5"))
        for padding, own in structure.items()
    }
    for padding in ("replicate", "reflect"):
        for layer in ("conv1", "conv5"):
            assert found[padding][layer].shape == found["zeros"][layer].shape
        inside = (slice(1, -1), slice(1, -1))
        np.testing.assert_allclose(
            found[padding]["conv1"][inside], found["zeros"]["conv1"][inside], atol=1e-5
        )


SMALL = {"size": 48, "steps": 2, "pyramid.levels": 1, "scores": False, "tv_weight": 0}


@pytest.fixture
def composed(pictures):
    given = {name: str(pictures / f"{name}.png") for name in ("content", "style")}
    return functools.partial(compose, **given)


def first_row(config):
    found = job.build(planning.plan(config))
    return trace.row(next(job.run(found)), found), found


@pytest.mark.slow
@pytest.mark.parametrize("loss", group_options("content_loss"))
def test_commands_have_terms_without_a_unit(loss, composed):
    row, _ = first_row(composed(**SMALL, content_loss=loss, style_weight=7, content_weight=2))
    assert row["style_left"] == pytest.approx(1.0, abs=1e-5)
    assert row["content_left"] == pytest.approx(0.0, abs=1e-5)
    assert row["loss"] == pytest.approx(7.0, rel=1e-5)


@pytest.mark.slow
def test_layer_weights_are_shares_of_a_mean(composed):
    layers = {"style_layers": ["conv1_1", "conv2_1"], "style_weight": 6, "style_falloff": 1}
    weights = {}
    for own in (None, [1, 1], [16, 4], [4, 1], [1, 0]):
        _, found = first_row(composed(**SMALL, **layers, style_layer_weights=own))
        weights[str(own)] = [float(w) for w in found.stages[-1].problem.weights.style.values()]
    assert weights["None"] == weights["[1, 1]"] == [3.0, 3.0]
    assert weights["[16, 4]"] == weights["[4, 1]"] == pytest.approx([4.8, 1.2])
    assert weights["[1, 0]"] == [6.0, 0.0]


def test_falloff_is_by_depth_in_whatever_order_layers_are_named(composed):
    settings = {"style_layers": ["conv3_1", "conv1_1"], "style_weight": 3, "style_falloff": 2}
    _, found = first_row(composed(**SMALL, **settings))
    assert found.stages[-1].problem.weights.style == pytest.approx({"conv1_1": 2, "conv3_1": 1})


def test_a_texture_compares_with_a_grey_picture(composed, pictures, tmp_path):
    images.save(tmp_path / "grey.png", np.full((40, 40, 3), 0.5, np.float32))
    row, _ = first_row(
        compose(
            recipe="texture",
            style=str(pictures / "style.png"),
            init=str(tmp_path / "grey.png"),
            **SMALL | {"size": "40x40"},
        )
    )
    assert row["style_left"] == pytest.approx(1.0, abs=0.02)  # 0.5 is 128 in a file
    assert "content_left" not in row


@pytest.mark.slow
def test_each_region_and_each_painting_has_a_reference(composed, pictures, tmp_path):
    """At the photograph the distance of a region to its target is 1, so that blends of them are."""
    labels = np.zeros((36, 48, 3), np.float32)
    labels[:, 20:] = 1.0
    images.save(tmp_path / "labels.png", labels)
    both = [str(pictures / "style.png"), str(pictures / "content.png")]
    row, found = first_row(
        composed(
            **SMALL,
            style=both,
            content_mask=str(tmp_path / "labels.png"),
            style_mask=["black", "white"],
            style_layers=["conv1_1", "conv2_1"],
        )
    )
    assert all(len(own) == 2 for own in found.stages[-1].problem.references.style.values())
    assert row["style_left"] == pytest.approx(1.0, abs=1e-4)
    row, _ = first_row(
        composed(**SMALL, style=[both[0], both[0]], style_blend=[3, 1], style_loss="wasserstein")
    )
    assert row["style_left"] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.slow
def test_content_weight_map_counts_in_the_reference(composed, tmp_path):
    """Where content counts half as much everywhere, so does a flat picture's."""
    images.save(tmp_path / "map.png", np.full((36, 48, 3), 128 / 255, np.float32))
    start = {"init": "noise", **SMALL}
    plain, _ = first_row(composed(**start))
    halved, _ = first_row(composed(**start, content_weight_map=str(tmp_path / "map.png")))
    assert halved["content_left"] == pytest.approx(plain["content_left"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["momo", "gatys2015", "gatys-code", "johnson-neural-style"])
def test_recipes_of_papers_keep_their_units(recipe, composed):
    network = {"network": "vgg16", "weights": "lpips", "rescale": False}
    row, found = first_row(composed(**SMALL, recipe=recipe, **network))
    assert found.stages[-1].problem.references == ()
    assert "style_left" not in row


def test_a_run_records_its_references(nstyle_here, given, tmp_path):
    settings = ["size=40", "steps=2", "scores=false", "style_weight=1e6"]
    status, out, err = nstyle_here(*given, *settings)
    assert status == 0
    assert " content 0" in out and " style 0" in out
    assert "the photograph hardly counts" in err
    (result,) = tmp_path.glob("runs/*/result.json")
    kept = json.loads(result.read_text())
    assert kept["references"]["content"]["conv4_2"] > 0
    assert len(kept["references"]["style"]) == len(kept["weights"]["style"]) == 5
    trace = pd.read_csv(result.parent / "trace.csv")
    assert {"content_left", "style_left"} <= set(trace)
    assert trace["style_left"].iloc[0] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.slow
def test_batches_have_their_own_references(nstyle_here, given, pictures, tmp_path):
    """Runs of two paintings together as one after another; losses to 1e-3."""
    paintings = ",".join(str(pictures / name) for name in ("style.png", "content.png"))
    sweep = ["-m", given[0], f"style={paintings}", "size=40", "style_size=content", "steps=3"]
    sweep += ["scores=false", "init=noise"]
    found = {}
    for batch in ("1", "2"):
        status, _, err = nstyle_here(*sweep, f"batch={batch}", f"runs_dir=runs{batch}")
        assert status == 0, err
        results = [json.loads(p.read_text()) for p in tmp_path.glob(f"runs{batch}/*/result.json")]
        found[batch] = sorted(result["best"]["loss"] for result in results)
        assert {result["batch"] for result in results} == {int(batch)}
        assert sum(result["compiles"] for result in results) <= 1
    np.testing.assert_allclose(found["1"], found["2"], rtol=1e-3)

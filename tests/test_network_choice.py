"""Other networks, random weights and smoothing, from the settings to the result."""

import json

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from compiled import features_of, prepare, value_and_grad
from scipy.special import softmax

from nstyle.config import compose, deciding, identifying
from nstyle.errors import NstyleError
from nstyle.losses import NoSmoothing, Swag, softmax_smoothing
from nstyle.networks import NETWORKS
from nstyle.objective import LossWeights, Structure
from nstyle.runs import planning
from nstyle.runs.job import build, run

SMALL = ["size=48", "pyramid.levels=1", "steps=3"]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_smoothing_equals_scipy(temperature, random):
    """In float64, over all entries at once; large features stay finite."""
    features = 20 * random.random((7, 5, 11))
    expected = features.size * softmax(features / temperature)
    found = softmax_smoothing(jnp.asarray(features, jnp.float32), temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(jnp.mean(found), 1, rtol=1e-5)
    large = softmax_smoothing(jnp.asarray(1e4 * features, jnp.float32), temperature)
    np.testing.assert_allclose(jnp.sum(large), features.size, rtol=1e-5)
    assert softmax_smoothing(jnp.ones((2, 2, 2), jnp.bfloat16)).dtype == jnp.float32


def test_smoothed_losses_equal_numpy(vgg16, random):
    """The content and Gram terms of softmaxes of features that are tested elsewhere."""
    layers = {"content_layers": ("conv2_1",), "style_layers": ("conv1_1",)}
    numbers = LossWeights({"conv2_1": 1.0}, {"conv1_1": 1.0})
    structure = Structure(**layers, smoothing=Swag(2.0))
    pictures = [jnp.asarray(random.random((16, 12, 3)), jnp.float32) for _ in range(2)]
    problem = prepare(structure, vgg16.params, numbers, *pictures)

    def smoothed(picture, layer):
        (features,) = features_of(Structure(**layers), vgg16.params, picture, (layer,)).values()
        return features.size * softmax(np.asarray(features, np.float64) / 2)

    def gram(picture):
        rows = smoothed(picture, "conv1_1").reshape(-1, 64)
        return rows.T @ rows / rows.size

    (_, terms), gradient = value_and_grad(structure, pictures[1], problem)
    content, own = (smoothed(picture, "conv2_1") for picture in pictures)
    np.testing.assert_allclose(terms.content["conv2_1"], np.mean((own - content) ** 2), rtol=1e-4)
    assert float(terms.style["conv1_1"]) == pytest.approx(0, abs=1e-9)
    assert jnp.isfinite(gradient).all() and jnp.any(gradient != 0)
    content, own = (gram(picture) for picture in (pictures[1], pictures[0]))
    terms = value_and_grad(structure, pictures[0], problem)[0][1]
    np.testing.assert_allclose(terms.style["conv1_1"], np.sum((own - content) ** 2), rtol=1e-3)


@pytest.fixture
def planned():
    pictures = {
        name: np.full((40, 44, 3), value, np.float32)
        for name, value in (("content", 0.5), ("style", 0.2))
    }
    return lambda **settings: planning.plan(compose(**{"size": 44} | settings), pictures)


def test_the_recipe_sets_layers_and_weights_and_says_who_judges(planned):
    plan = planned(recipe="alexnet")
    assert plan.structure.layers == ("conv3", "conv1", "conv2", "conv4", "conv5")
    np.testing.assert_allclose([*plan.weights.style.values()], 2.0)
    assert ["alexnet, which this run optimises" in note for note in plan.notes] == [True]
    assert planned(recipe="alexnet", scores=False).notes == planned().notes == ()


def test_smoothing_leaves_the_weights(planned):
    smooth, plain = planned(smoothing="swag"), planned()
    assert smooth.weights == plain.weights
    assert (smooth.structure.smoothing, plain.structure.smoothing) == (Swag(10.0), NoSmoothing())


def test_random_weights_name_the_run_and_their_seed_only_through_them(planned):
    digests = [
        planned(recipe="random-weights", weights_seed=seed).digests["weights"] for seed in (0, 1, 1)
    ]
    assert digests[0] != digests[1] == digests[2]
    config = compose(weights="random", weights_seed=1)
    assert "weights_seed" in deciding(config) and "weights_seed" not in identifying(config)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"network": "alexnet"}, "alexnet has no layer 'conv3_2'; did you mean 'conv3'"),
        ({"network": "alexnett"}, "network: unknown value 'alexnett'; did you mean 'alexnet'"),
        ({"recipe": "alexnet", "tile": 32}, "network: memory and tile work with vgg16 and vgg19"),
        ({"recipe": "alexnet", "size": 30}, "at least 31 x 31"),
        ({"recipe": "alexnet", "weights": "keras"}, "no alexnet .*weights=lpips, weights=random"),
        ({"smoothing": "swag", "tile": 32}, "smoothing: swag is over all positions"),
        ({"smoothing": "swagg"}, "smoothing: unknown value 'swagg'; did you mean 'swag'"),
        ({"smoothing": "swag", "smoothing.temperature": 0}, "smoothing.temperature: 0"),
        ({"smoothing.temperature": 2}, "temperature"),
        ({"weights_seed": 3}, "weights_seed: 3 would change nothing with weights=lpips"),
        ({"weights": "random", "weights_seed": -1}, "weights_seed: -1 is out of range"),
        ({"objectives": ["style_gram_vgg16"]}, "objectives: .* vgg_score=true"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(settings, line, planned):
    with pytest.raises(NstyleError, match=line) as raised:
        planned(**settings)
    assert "\n" not in str(raised.value)


def test_memory_takes_alexnet_whole_where_that_fits(planned):
    assert planned(recipe="alexnet", memory="1GiB").sizes[-1].tile is None
    with pytest.raises(NstyleError, match="network: memory and tile work with vgg16 and vgg19"):
        planned(recipe="alexnet", memory="330MiB")


@pytest.mark.slow
def test_a_batch_of_smoothed_alexnets_lowers_the_losses(nstyle_here, given, tmp_path):
    choices = ["recipe=alexnet", "smoothing=swag", "init=noise", "seed=0,1"]
    status, _, err = nstyle_here("-m", *given, *SMALL, *choices, "batch=2", "scores=false")
    assert status == 0, err
    results = sorted(tmp_path.glob("runs/*/result.json"))
    assert len(results) == 2
    for path in results:
        trace = pd.read_csv(path.parent / "trace.csv")
        assert trace.best_loss.iloc[-1] < trace["loss"][0]
        assert json.loads(path.read_text())["batch"] == 2


@pytest.mark.slow
def test_a_finished_run_is_judged_by_vgg_when_that_is_asked(nstyle_here, given, tmp_path):
    run = ["recipe=alexnet", *given, *SMALL]
    assert nstyle_here(*run)[0] == 0
    (path,) = tmp_path.glob("runs/*/scores.json")
    assert "style_gram_vgg16" not in json.loads(path.read_text())["scores"]
    assert nstyle_here(*run, "vgg_score=true")[0] == 0
    assert json.loads(path.read_text())["scores"]["style_gram_vgg16"] > 0


@pytest.mark.slow
def test_a_network_is_one_architecture(planned, monkeypatch):
    """VGG-11 (Simonyan and Zisserman 2014, column A): one convolution, or two, in a block."""
    vgg16 = NETWORKS["vgg16"]
    short = {"conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"}
    kept = tuple(layer for layer in vgg16.convolutions if layer.name not in short)
    monkeypatch.setitem(NETWORKS, "vgg11", vgg16._replace(convolutions=kept))
    own = {"network": "vgg11", "weights": "random", "content_layers": ["conv3_2"]}
    whole, tiled = (planned(**own, **more) for more in ({}, {"tile": 16}))
    losses = []
    for plan in (whole, tiled):
        job = build(plan)
        losses.append(next(run(job)).value)
    assert whole.memory > 0 and whole.operations > 0
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    with pytest.raises(NstyleError, match="vgg11 has no layer 'conv1_2'"):
        planned(**own, style_layers=["conv1_2"])

"""Layers besides those after a ReLU: before it, pools, the picture, and layers side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import prepare
from scipy.ndimage import zoom
from scipy.signal import correlate
from test_tiles import check, problem_of

from nstyle.errors import NstyleError
from nstyle.networks import Average, GeM, Maximum, network_features
from nstyle.objective import LossWeights, Structure, objective, tiles

OPTIONS = {"network": "vgg16", "pixels": "torchvision", "pooling": Average()}


def found(vgg16, picture, *layers, **options):
    return network_features(
        vgg16.params, jnp.asarray(picture, jnp.float32), layers=layers, **(OPTIONS | options)
    )


def test_each_tap_equals_numpy_on_the_one_before(vgg16, random):
    picture = random.random((14, 17, 3))
    taps = found(
        vgg16, picture, "input", "conv1_1.pre", "conv1_1", "conv1_2.pre", "conv1_2", "pool1"
    )
    normalised = (picture - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(taps["input"], normalised, rtol=1e-5, atol=1e-6)
    for before, name in (("input", "conv1_1"), ("conv1_1", "conv1_2")):
        padded = np.pad(np.asarray(taps[before], np.float64), ((1, 1), (1, 1), (0, 0)))
        kernel = np.asarray(vgg16.params[name]["kernel"], np.float64)
        convolved = np.stack(
            [correlate(padded, kernel[..., out], "valid")[..., 0] for out in range(64)], axis=-1
        )
        expected = convolved + vgg16.params[name]["bias"]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(taps[f"{name}.pre"], expected, rtol=1e-5, atol=1e-5 * scale)
        np.testing.assert_array_equal(taps[name], np.maximum(taps[f"{name}.pre"], 0))
    whole = np.asarray(taps["conv1_2"], np.float64)[:14, :16].reshape(7, 2, 8, 2, 64)
    np.testing.assert_allclose(taps["pool1"], whole.mean((1, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_last_pool_comes_after_all_convolutions(vgg16, random):
    picture = random.random((35, 40, 3))
    taps = found(vgg16, picture, "conv5_3", "pool5", pooling=Maximum())
    deep = np.asarray(taps["conv5_3"])
    np.testing.assert_array_equal(taps["pool5"], deep[:2, :2].max((0, 1), keepdims=True))


def test_a_hypercolumn_is_layers_side_by_side(vgg16, random):
    """Deeper ones resized linearly to the positions of the shallowest, halves to halves."""
    picture = random.random((16, 16, 3))
    name = "hyper(conv1_1,conv2_1)"
    taps = found(vgg16, picture, name, "conv2_1", "conv1_1")
    assert taps[name].shape == (16, 16, 64 + 128)
    np.testing.assert_array_equal(taps[name][..., :64], taps["conv1_1"])
    deep = np.asarray(taps["conv2_1"], np.float64)
    expected = zoom(deep, (2, 2, 1), order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(taps[name][..., 64:], expected, rtol=1e-4, atol=1e-4)


TAPS = [
    (("input",), ("conv1_1",)),
    (("conv2_2.pre",), ("input", "conv2_1.pre")),
    (("pool1",), ("pool2", "conv1_2")),
    (("pool2",), ("pool1",)),
    ((), ("input",)),
    (("conv3_1.pre",), ("conv3_1", "pool2", "conv2_1.pre")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("content", "style"), TAPS)
@pytest.mark.parametrize("pooling", [Average(), GeM()])
def test_tiles_equal_the_whole(content, style, pooling, vgg16, random):
    structure = Structure(
        pooling=pooling, content_layers=content, style_layers=style, padding="replicate"
    )
    image, problem = problem_of(structure, vgg16.params, (27, 22), random)
    check(structure, image, problem, tile=12)


@pytest.mark.parametrize("layer", ["input", "conv2_1.pre", "pool1", "hyper(conv1_1,conv2_1)"])
def test_gradients_equal_finite_differences(layer, vgg16, random):
    structure = Structure(content_layers=(layer,), style_layers=(layer,))
    photograph, painting, image = (
        jnp.asarray(random.random((16, 18, 3)), jnp.float32) for _ in range(3)
    )
    weights = LossWeights({layer: 1.0}, {layer: 1.0})
    problem = prepare(structure, vgg16.params, weights, photograph, painting, balanced=True)

    @jax.jit
    def loss(image):
        return objective(structure)(image, problem)[0]

    slope = jax.grad(loss)(image)
    direction = slope / jnp.linalg.norm(slope)
    step = 0.02
    ahead, behind = loss(image + step * direction), loss(image - step * direction)
    np.testing.assert_allclose((ahead - behind) / (2 * step), jnp.sum(slope * direction), rtol=1e-2)


def test_at_the_photograph_each_layers_share_is_one(vgg16, random):
    """Of all kinds of layers, by their references."""
    layers = ("input", "conv1_1.pre", "pool1", "conv2_1", "hyper(conv1_1,pool1)")
    structure = Structure(content_layers=("conv1_1",), style_layers=layers)
    noise = random.random((2, 20, 24, 3))
    photograph, painting = (jnp.asarray(own, jnp.float32) for own in (noise[0], noise[1] ** 4))
    weights = LossWeights({"conv1_1": 1.0}, dict.fromkeys(layers, 1.0))
    problem = prepare(structure, vgg16.params, weights, photograph, painting, balanced=True)
    terms = objective(structure)(photograph, problem)[1]
    np.testing.assert_allclose(list(terms.style.values()), 1.0, rtol=1e-5)


def test_what_tiles_cannot_have_is_refused(vgg16, random):
    for layer, line in (
        ("hyper(conv1_1,conv2_1)", "layers side by side"),
        ("pool5", "layers up to conv5_3"),
    ):
        structure = Structure(content_layers=(), style_layers=(layer,))
        image, problem = problem_of(structure, vgg16.params, (40, 40), random)
        with pytest.raises(NstyleError, match=line):
            tiles.value_and_grad(structure, image, problem, 16)


def test_a_run_with_every_kind_of_layer(nstyle_here, given, tmp_path):
    """In its trace, and with the weights of the deepest."""
    status, _, err = nstyle_here(
        *given, "size=32", "steps=2", "pyramid.levels=1", "scores=false",
        "content_layers=[block2_pool]", "style_layers=[input,relu1_2.pre,'hyper(conv1_1,conv2_1)']",
    )  # fmt: skip
    assert status == 0, err
    (trace,) = tmp_path.glob("runs/*/trace.csv")
    import pandas

    columns = pandas.read_csv(trace).columns
    wanted = ["content/pool2", "style/input", "style/conv1_2.pre", "style/hyper(conv1_1,conv2_1)"]
    assert set(wanted) <= set(columns)


def test_a_misspelt_layer_of_a_hypercolumn_is_refused(nstyle_here, given):
    status, _, err = nstyle_here(*given, "style_layers=['hyper(conv1_1,conv21)']")
    assert (status, err.count("\n")) == (2, 1)
    assert "vgg16 has no layer 'conv21'; did you mean 'conv2_1'" in err


def test_partial_padding_counts_what_is_inside(vgg16, random):
    """Equation 5 of Liu et al. 2018 by SciPy, in the first convolution."""
    picture = random.random((6, 9, 3))
    layer = found(vgg16, picture, "conv1_1.pre", padding="partial")["conv1_1.pre"]
    normalised = (picture - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    padded = np.pad(normalised, ((1, 1), (1, 1), (0, 0)))
    kernel = np.asarray(vgg16.params["conv1_1"]["kernel"], np.float64)
    convolved = np.stack(
        [correlate(padded, kernel[..., out], "valid")[..., 0] for out in range(64)], axis=-1
    )
    counts = correlate(np.pad(np.ones((6, 9)), 1), np.ones((3, 3)), "valid")
    expected = convolved * (9 / counts)[..., None] + vgg16.params["conv1_1"]["bias"]
    np.testing.assert_allclose(layer, expected, rtol=1e-4, atol=1e-4)
    assert [counts[0, 0], counts[0, 3], counts[3, 3]] == [4, 6, 9]


def test_partial_padding_is_for_the_whole_picture(nstyle_here, given):
    quick = ["size=32", "steps=1", "pyramid.levels=1", "scores=false", "padding=partial"]
    assert nstyle_here(*given, *quick)[0] == 0
    status, _, err = nstyle_here(*given, *quick, "tile=16")
    assert status == 2
    assert "padding: memory and tile do not work with partial" in err

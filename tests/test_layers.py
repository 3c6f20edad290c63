import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nstyle.errors import NstyleError
from nstyle.networks import (
    NETWORKS,
    Average,
    blocks,
    canonical,
    deepest,
    extent,
    gradient_flops,
    kernel_shape,
    layer_names,
    minimum_size,
    network_features,
    taps,
)
from nstyle.networks import width as width_of


def test_counts_of_convolutions_are_those_of_the_paper():
    assert len(layer_names("vgg16")) == 13
    assert len(layer_names("vgg19")) == 16
    assert len(layer_names("alexnet")) == 5


@pytest.mark.parametrize("spelling", ["conv4_2", "block4_conv2", "relu4_2"])
def test_spellings_name_the_same_layer(spelling):
    assert canonical(spelling, "vgg16") == "conv4_2"


@pytest.mark.parametrize("wrong", ["conv_4", "conv4-2", "conv4_4", "conv6_1", "CONV4_2", "", "4_2"])
def test_misspelt_layer_is_refused_with_the_list(wrong):
    with pytest.raises(NstyleError, match="vgg16 has no layer .*conv1_1, .*conv5_3"):
        canonical(wrong, "vgg16")


def test_nearest_layer_is_offered():
    with pytest.raises(NstyleError, match="did you mean 'conv4_2'"):
        canonical("conv4-2", "vgg16")


def test_geometry():
    assert kernel_shape("conv1_1", "vgg16") == (3, 3, 3, 64)
    assert kernel_shape("conv3_1", "vgg19") == (3, 3, 128, 256)
    assert [minimum_size(f"conv{block}_1", "vgg19") for block in range(1, 6)] == [1, 2, 4, 8, 16]
    assert extent("conv3_2", "vgg16", (43, 38, 3)) == (10, 9)
    assert deepest(("conv2_1", "conv4_2", "conv1_1"), "vgg16") == "conv4_2"


@pytest.mark.parametrize("spelling", ["conv4", "relu4"])
def test_alexnets_layers_have_no_blocks(spelling):
    assert canonical(spelling, "alexnet") == "conv4"
    with pytest.raises(
        NstyleError, match=r"no layer 'conv4_2'; did you mean 'conv4'\? .*conv5; each"
    ):
        canonical("conv4_2", "alexnet")


def test_geometry_of_alexnet():
    """At 224 px as in the tables of its papers: 55 positions, 27 after a pool, 13 after two."""
    extents = [extent(layer, "alexnet", (224, 224)) for layer in layer_names("alexnet")]
    assert extents == [(55, 55), (27, 27), (13, 13), (13, 13), (13, 13)]
    assert [kernel_shape(layer, "alexnet") for layer in ("conv1", "conv2", "conv5")] == [
        (11, 11, 3, 64),
        (5, 5, 64, 192),
        (3, 3, 256, 256),
    ]
    assert blocks(("conv4",), "alexnet") == [("conv1",), ("conv2",), ("conv3", "conv4")]


@pytest.mark.parametrize(
    ("network", "module", "layer"),
    [
        ("vgg16", 0, "conv1_1.pre"),
        ("vgg16", 4, "pool1"),
        ("vgg19", 21, "conv4_2.pre"),
        ("vgg19", 22, "conv4_2"),
        ("vgg19", 36, "pool5"),
        ("alexnet", 2, "pool1"),
        ("alexnet", 6, "conv3.pre"),
        ("alexnet", 12, "pool5"),
    ],
)
def test_torchvisions_numbers_of_modules(network, module, layer):
    """As in `torchvision.models.vgg19().features` and the others'."""
    assert canonical(f"features.{module}", network) == layer


def test_spellings_of_the_other_layers():
    for spelling, layer in {
        "relu4_2.pre": "conv4_2.pre",
        "block3_conv1.pre": "conv3_1.pre",
        "block2_pool": "pool2",
        "input": "input",
        "hyper(relu1_1, block2_conv1)": "hyper(conv1_1,conv2_1)",
    }.items():
        assert canonical(spelling, "vgg16") == layer


@pytest.mark.parametrize("wrong", ["pool6", "features.31", "conv4_2.post", "hyper(conv1_1)"])
def test_layers_that_are_not_there(wrong):
    with pytest.raises(NstyleError, match="layer"):
        canonical(wrong, "vgg16")


networks_and_layers = st.sampled_from(
    [(network, layer) for network in NETWORKS for layer in taps(network)]
)


@given(networks_and_layers, st.integers(1, 70), st.integers(1, 70))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_extents_are_those_of_the_features(of, height, width):
    """Where the layer has no position the network would not run."""
    network, layer = of
    least = minimum_size(layer, network)
    assert (min(extent(layer, network, (height, width))) > 0) == (min(height, width) >= least)
    assert extent(layer, network, (least, least)) == (1, 1)
    height, width = max(height, least), max(width, least)
    params = {
        name: {
            "kernel": jax.ShapeDtypeStruct(kernel_shape(name, network), jnp.float32),
            "bias": jax.ShapeDtypeStruct(kernel_shape(name, network)[3:], jnp.float32),
        }
        for name in layer_names(network)
    }
    features = jax.eval_shape(
        lambda params, image: network_features(
            params, image, network=network, pooling=Average(), layers=(layer,), pixels="caffe"
        ),
        params,
        jax.ShapeDtypeStruct((height, width, 3), jnp.float32),
    )
    channels = width_of(layer, network)
    assert features[layer].shape == (*extent(layer, network, (height, width)), channels)


@pytest.mark.parametrize(("layers", "shape"), [(("conv3_1",), (40, 56)), (("conv2_2",), (33, 47))])
def test_operations_are_those_that_xla_counts(vgg16, layers, shape):
    """XLA leaves out what falls on the padding, and counts the other operations too."""

    def loss(image):
        features = network_features(
            vgg16.params,
            image,
            network="vgg16",
            pooling=Average(),
            layers=layers,
            pixels="torchvision",
        )
        return sum(feature.sum() for feature in features.values())

    counted = jax.jit(jax.grad(loss)).lower(jnp.zeros((*shape, 3))).cost_analysis()["flops"]
    assert gradient_flops(layers, "vgg16", shape) == pytest.approx(counted, rel=0.1)

import jax
import jax.numpy as jnp
import pytest

from nstyle.errors import NstyleError
from nstyle.layers import canonical, deepest, gradient_flops, kernel_shape, layer_names, stride
from nstyle.networks import network_features


def test_counts_of_convolutions_are_those_of_the_paper():
    assert len(layer_names("vgg16")) == 13
    assert len(layer_names("vgg19")) == 16


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
    assert [stride(f"conv{block}_1") for block in range(1, 6)] == [1, 2, 4, 8, 16]
    assert deepest(("conv2_1", "conv4_2", "conv1_1"), "vgg16") == "conv4_2"


@pytest.mark.parametrize(("layers", "shape"), [(("conv3_1",), (40, 56)), (("conv2_2",), (33, 47))])
def test_operations_are_those_that_xla_counts(vgg16, layers, shape):
    """XLA leaves out what falls on the padding, and counts the other operations too."""

    def loss(image):
        features = network_features(
            vgg16.params, image, network="vgg16", pooling="avg", layers=layers, pixels="torchvision"
        )
        return sum(feature.sum() for feature in features.values())

    counted = jax.jit(jax.grad(loss)).lower(jnp.zeros((*shape, 3))).cost_analysis()["flops"]
    assert gradient_flops(layers, "vgg16", shape) == pytest.approx(counted, rel=0.1)

"""A network that makes a picture in one pass, trained on the losses that `nstyle` optimises.

Johnson, Alahi and Fei-Fei 2016 (arXiv 1603.08155): a convolution 9 x 9, two of stride 2, residual
blocks, two upsamplings and a convolution 9 x 9; with instance normalisation (Ulyanov, Vedaldi and
Lempitsky 2016, arXiv 1607.08022), whose scale and shift each style has of its own (Dumoulin, Shlens
and Kudlur 2017, arXiv 1610.07629), and borders by reflection or zeros at every layer.

Where it does not paint but makes pictures larger (section 4.2 of Johnson et al.), nothing is made
smaller before the residual blocks, and every upsampling by 2 is one more. The last layer, zero at
first, adds to the picture enlarged by a cubic (Kim, Lee and Lee 2016, arXiv 1511.04587). Features
hardly tell brightness and contrast: a result is back-projected, so that it agrees with the picture
given, where the paper matches histograms. Nothing is normalised: instance normalisation would take
contrast away, and without batch normalisation such networks are better (Lim et al. 2017, arXiv
1707.02921).

`layers_of` lists the layers once; the module here and the tiles of `feedforward_tiles` follow it.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nstyle.arrays import at_least_float32
from nstyle.errors import NstyleError, check_choice
from nstyle.feedforward import resolution
from nstyle.networks import PRECISIONS

#: Layer name -> name of an array -> array; see `TransformNet`.
NetParams = Mapping[str, Mapping[str, Any]]

#: How a map is made twice as large before a convolution: `resize` repeats every value (Odena et al.
#: 2016), `transposed` puts zeros between them, which makes a transposed convolution.
UPSAMPLINGS = ("resize", "transposed")

#: What lies beyond the border of every map, and the name that `numpy.pad` has for it: its
#: reflection, or zeros as beyond the maps of the network that the losses see by.
BORDERS = {"reflect": "reflect", "zeros": "constant"}

#: How many times as large a network that does not paint makes pictures.
UPSCALES = (4, 8)

#: Least height and width of a picture: two positions of a painting network's residual blocks, to
#: reflect one; the first layer reflects four pixels.
LEAST_SIDE = 8

#: Added to a variance before its root.
EPSILON = 1e-5


@dataclass(frozen=True)
class Architecture:
    """The static part of a network; hashable.

    Attributes:
      width: channels of the first layer, 32 in the paper; of all layers where it enlarges, 64.
      blocks: residual blocks, 5 in the paper; 4 where it enlarges.
      styles: how many styles it paints; 1 where it enlarges, of no effect.
      upsampling: one of `UPSAMPLINGS`.
      upscale: one of `UPSCALES`; None where it paints.
      border: a key of `BORDERS`.

    Raises:
      NstyleError: a value is out of its range.
    """

    width: int = 32
    blocks: int = 5
    styles: int = 1
    upsampling: str = "resize"
    upscale: int | None = None
    border: str = "reflect"

    def __post_init__(self) -> None:
        check_choice("upsampling", self.upsampling, UPSAMPLINGS)
        check_choice("border", self.border, BORDERS)
        if self.upscale not in (None, *UPSCALES):
            raise NstyleError(f"upscale: {self.upscale} is none of {UPSCALES}")
        ranges = {"width": (1, 1024), "blocks": (0, 100), "styles": (1, 1000)}
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise NstyleError(f"{name}: {getattr(self, name)} is not from {least} to {most}")

    @property
    def stride(self) -> int:
        """Pixels of the picture given between two positions of the residual blocks."""
        return 1 if self.upscale else 4


class Layer(NamedTuple):
    """A convolution and what follows it.

    Attributes:
      name: of its arrays.
      kernel: its edge, odd.
      channels: of its output.
      stride: 1 or 2.
      enlarged: 2 where its input is made twice as large first, else 1.
      normalised: whether instance normalisation follows, in place of a bias.
      relu: whether a ReLU follows that.
      silent: whether its kernel is zero before training.
      opens: whether a residual block begins with it.
      closes: whether a residual block ends with it: the block's input is added.
    """

    name: str
    kernel: int
    channels: int
    stride: int = 1
    enlarged: int = 1
    normalised: bool = True
    relu: bool = True
    silent: bool = False
    opens: bool = False
    closes: bool = False


def layers_of(architecture: Architecture) -> tuple[Layer, ...]:
    """Returns the layers of a network, in order (Johnson et al. 2016, supplement, tables 1, 2)."""
    width, upscale = architecture.width, architecture.upscale
    down, inner, up = [2 * width, 4 * width], 4 * width, [2 * width, width]
    if upscale:
        down, inner, up = [], width, [width] * int(math.log2(upscale))
    layer = functools.partial(Layer, normalised=not upscale)
    blocks = (
        half
        for block in range(1, architecture.blocks + 1)
        for half in (
            layer(f"block{block}_1", 3, inner, opens=True),
            layer(f"block{block}_2", 3, inner, relu=False, closes=True),
        )
    )
    return (
        layer("first", 9, width),
        *(layer(f"down{i}", 3, channels, stride=2) for i, channels in enumerate(down, start=1)),
        *blocks,
        *(layer(f"up{i}", 3, channels, enlarged=2) for i, channels in enumerate(up, start=1)),
        Layer("last", 9, 3, normalised=False, relu=False, silent=bool(upscale)),
    )


def convolution(layer: Layer, precision: str = "float32") -> nn.Conv:
    """Returns the convolution of a layer, of an input that has its border already.

    Args:
      layer: one of `layers_of`.
      precision: a key of `networks.PRECISIONS`.
    """
    dtype, products = PRECISIONS[precision]
    return nn.Conv(
        layer.channels,
        (layer.kernel, layer.kernel),
        strides=layer.stride,
        padding="VALID",
        use_bias=not layer.normalised,
        dtype=dtype,
        precision=products,
        kernel_init=nn.initializers.zeros if layer.silent else nn.initializers.lecun_normal(),
        conv_general_dilated={"first": _with_a_fourth, "last": _by_columns}.get(layer.name),
        name=layer.name,
    )


def _with_a_fourth(
    x: Float[Array, "b h w c"], kernel: Float[Array, "e e c out"], *args: Any, **options: Any
) -> Float[Array, "b h_ w_ out"]:
    """Returns a convolution of colours with a fourth channel of zeros.

    XLA on the CPU takes two to seven times as long for a kernel 9 x 9 of three, measured.
    """
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)))
    kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0)))
    return jax.lax.conv_general_dilated(x, kernel, *args, **options)


def _by_columns(
    x: Float[Array, "b h w c"], kernel: Float[Array, "e e c out"], *args: Any, **options: Any
) -> Float[Array, "b h_ w_ out"]:
    """Returns a convolution of stride 1 as a sum over the columns of its kernel.

    The columns become output channels of one convolution. XLA on the CPU takes seven times as long
    for a kernel 9 x 9 to three channels, measured.
    """
    edge, _, channels, out = kernel.shape
    columns = kernel.transpose(0, 2, 1, 3).reshape(edge, 1, channels, edge * out)
    found = jax.lax.conv_general_dilated(x, columns, *args, **options)
    width = x.shape[2] - edge + 1
    parts = (found[:, :, i : i + width, i * out : (i + 1) * out] for i in range(edge))
    return functools.reduce(jnp.add, parts)


class InstanceNorm(nn.Module):
    """Instance normalisation, conditional on the style (Dumoulin et al. 2017, equation 5).

    Attributes:
      styles: how many there are; `scale` and `shift` have the shape (styles, channels).
    """

    styles: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], mixture: Float[Array, "b styles"]
    ) -> Float[Array, "b h w c"]:
        """Returns maps of mean `shift` and deviation `scale`, mixed from those of the styles."""
        shape = (self.styles, x.shape[-1])
        scale = mixture @ self.param("scale", nn.initializers.ones, shape)
        shift = mixture @ self.param("shift", nn.initializers.zeros, shape)
        wide = at_least_float32(x)
        mean = jnp.mean(wide, axis=(1, 2), keepdims=True)
        variance = jnp.mean(jnp.square(wide - mean), axis=(1, 2), keepdims=True)
        normal = (wide - mean) * jax.lax.rsqrt(variance + EPSILON)
        return (normal * scale[:, None, None] + shift[:, None, None]).astype(x.dtype)


class TransformNet(nn.Module):
    """The network. Its parameters are `LAYER: {kernel}` and `LAYER_norm: {scale, shift}`.

    Attributes:
      architecture: its static part.
      precision: a key of `networks.PRECISIONS`; normalisations are float32.
    """

    architecture: Architecture
    precision: str = "float32"

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], mixture: Float[Array, "b styles"]
    ) -> Float[Array, "b h w 3"]:
        """Returns the pictures made; heights and widths are multiples of `Architecture.stride`."""
        x = block = 2.0 * images - 1.0
        beyond = BORDERS[self.architecture.border]
        for layer in layers_of(self.architecture):
            if layer.opens:
                block = x
            if layer.enlarged > 1:
                x = _enlarged(x, layer.enlarged, self.architecture.upsampling)
            border = layer.kernel // 2
            x = jnp.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), mode=beyond)
            x = convolution(layer, self.precision)(x)
            if layer.normalised:
                norm = InstanceNorm(self.architecture.styles, name=f"{layer.name}_norm")
                x = norm(x, mixture)
            if layer.relu:
                x = nn.relu(x)
            if layer.closes:
                x += block
        x = at_least_float32(x)
        if self.architecture.upscale:
            return resolution.enlarged(images, self.architecture.upscale) + x
        return nn.sigmoid(x)


def _enlarged(x: Float[Array, "b h w c"], factor: int, upsampling: str) -> Float[Array, "..."]:
    if upsampling == "resize":
        return jnp.repeat(jnp.repeat(x, factor, axis=1), factor, axis=2)
    batch, height, width, channels = x.shape
    apart = jnp.zeros((batch, height, factor, width, factor, channels), x.dtype)
    apart = apart.at[:, :, 0, :, 0].set(x)
    return apart.reshape(batch, factor * height, factor * width, channels)


def initial_params(architecture: Architecture, key: PRNGKeyArray) -> NetParams:
    """Returns the parameters that training starts from, float32."""
    images = jnp.zeros((1, LEAST_SIDE, LEAST_SIDE, 3))
    mixture = jnp.zeros((1, architecture.styles))
    params: NetParams = jax.jit(TransformNet(architecture).init)(key, images, mixture)["params"]
    return params


def paint(
    architecture: Architecture,
    params: NetParams,
    images: Float[Array, "b h w 3"],
    mixture: Float[Array, "b styles"],
    precision: str = "float32",
) -> Float[Array, "b h w 3"]:
    """Returns painted pictures, float32 in (0, 1), or `upscale` times as large ones.

    Those are what the network makes, back-projected. They may overshoot [0, 1] a little.

    Args:
      architecture: of the network.
      params: its parameters.
      images: RGB in [0, 1], of any size from `LEAST_SIDE` on.
      mixture: the share of every style in each picture; each row sums to 1.
      precision: a key of `networks.PRECISIONS`.
    """
    made = transformed(architecture, params, images, mixture, precision)
    if architecture.upscale:
        return resolution.back_projected(made, images, architecture.upscale)
    return made


def transformed(
    architecture: Architecture,
    params: NetParams,
    images: Float[Array, "b h w 3"],
    mixture: Float[Array, "b styles"],
    precision: str = "float32",
) -> Float[Array, "b h w 3"]:
    """Returns what the network itself makes, on which it is trained; the arguments are `paint`'s.

    Back-projection in the training, too, was tried: the network then adds less detail.
    """
    height, width = images.shape[1:3]
    below, beside = -height % architecture.stride, -width % architecture.stride
    padded = jnp.pad(images, ((0, 0), (0, below), (0, beside), (0, 0)), mode="reflect")
    net = TransformNet(architecture, precision)
    painted = jnp.asarray(net.apply({"params": params}, padded, mixture))
    factor = architecture.upscale or 1
    return painted[:, : factor * height, : factor * width]


def check_side(name: str, shape: tuple[int, ...]) -> None:
    """Raises NstyleError where a picture is too small for the network."""
    if min(shape[:2]) < LEAST_SIDE:
        raise NstyleError(
            f"{name}: {shape[1]} x {shape[0]} pixels are too few"
            f" (at least {LEAST_SIDE} x {LEAST_SIDE})"
        )


def parameter_shapes(architecture: Architecture) -> dict[str, dict[str, tuple[int, ...]]]:
    """Returns the shape of every parameter, by layer and name."""
    params = jax.eval_shape(lambda: initial_params(architecture, jax.random.key(0)))
    return jax.tree.map(lambda leaf: tuple(leaf.shape), dict(params))


def single_style(architecture: Architecture, style: int = 0) -> np.ndarray:
    """Returns the mixture that is one style alone, float32 (styles,)."""
    return np.eye(architecture.styles, dtype=np.float32)[style]

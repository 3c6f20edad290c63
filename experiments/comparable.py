"""Do loss weights mean the same across poolings and weight families, before and after rescaling?

    python experiments/comparable.py [--content FILE] [--style FILE] [--weights FILE ...]

For one pair of pictures, the style loss of every layer (E_l of Gatys et al. 2015) between the
photograph and the painting, under average and max pooling and every weight set given; then the
same with filters rescaled to a mean activation of 1. `spread` is the largest over the smallest
value of a row: how far the same weight would mean something else.

Where no caffe weights are at hand, a stand-in shows what rescaling is invariant to: the filters of
`lpips` written for caffe's pixels, each multiplied by a factor drawn from a log-normal
distribution, which the next layer divides by. It is the same network at the scales of another
family, so it says nothing on how far Oxford's own filters differ.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import skimage.data

from nstyle import images
from nstyle.errors import NstyleError
from nstyle.losses import gram_matrix, style_loss
from nstyle.networks import (
    MEAN_PIXEL,
    Average,
    Maximum,
    Params,
    Pooling,
    layer_names,
    network_features,
    weights,
)
from nstyle.networks.rescaling import rescaled

LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
SWIRLS = Path(__file__).parent / "demo" / "styles" / "swirls.jpg"


def style_losses(
    found: weights.Weights, params: Params, pooling: Pooling, pair: list[jax.Array]
) -> list[float]:
    """Returns E_l between two pictures at each of `LAYERS`."""
    features = [
        network_features(
            params,
            picture,
            network=found.network,
            pooling=pooling,
            layers=LAYERS,
            pixels=found.pixels,
        )
        for picture in pair
    ]
    grams = [[gram_matrix(feature[layer]) for layer in LAYERS] for feature in features]
    return [float(style_loss(ours, theirs)) for ours, theirs in zip(*grams, strict=True)]


def caffe_stand_in(source: weights.Weights, seed: int = 0) -> weights.Weights:
    """Returns the same network for caffe's pixels, its filters at other scales."""
    generator = np.random.default_rng(seed)
    std = np.array([0.229, 0.224, 0.225])
    params = {}
    before = np.ones(3)
    for layer in layer_names(source.network):
        kernel, bias = source.params[layer]["kernel"], source.params[layer]["bias"]
        after = generator.lognormal(mean=1.0, sigma=0.7, size=bias.shape)
        if layer == "conv1_1":  # BGR, from 0 to 255, not divided by a standard deviation
            kernel = (kernel / (255 * std)[:, None])[:, :, ::-1]
            shift = np.subtract(MEAN_PIXEL["caffe"], MEAN_PIXEL["torchvision"]) / std
            bias = bias + np.einsum("hwio,i->o", source.params[layer]["kernel"], shift)
        params[layer] = {
            "kernel": (kernel / before[:, None] * after).astype(np.float32),
            "bias": (bias * after).astype(np.float32),
        }
        before = after
    return source._replace(
        params=params, pixels="caffe", source="stand-in", sha256=f"stand-in {seed}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--content", type=Path)
    parser.add_argument("--style", type=Path, default=SWIRLS)
    parser.add_argument("--weights", nargs="*", default=["keras"], help="besides lpips")
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    content = options.content or Path(skimage.data.__file__).parent / "coffee.png"
    pair = [jnp.asarray(images.load(path, options.size)) for path in (content, options.style)]

    sets = [weights.load()]
    for name in options.weights:
        try:
            sets.append(weights.load(name))
        except NstyleError as error:
            print(f"{error}\n-- the stand-in takes its place\n")
            sets.append(caffe_stand_in(sets[0]))
    for title, filters in (("as they are", lambda w, _: w.params), ("rescaled", rescaled)):
        columns = {
            f"{found.source} ({found.pixels}), {pooling.name}": style_losses(
                found, filters(found, pooling), pooling, pair
            )
            for found in sets
            for pooling in (Average(), Maximum())
        }
        table = pd.DataFrame(columns, index=pd.Index(LAYERS, name="layer"))
        table["spread"] = table.max(axis=1) / table.min(axis=1)
        print(f"{title}\n{table.to_string(float_format=lambda value: f'{value:.3g}')}\n")


if __name__ == "__main__":
    main()

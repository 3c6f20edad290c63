"""By how much each content loss changes when the photograph moves by a few pixels.

    python experiments/losses/shifts.py [--content FILE] [--size 256] [--layer conv4_2] [--out FILE]

Two crops of one photograph, moved against each other by 1, 2, 4 and 8 pixels to the right, are the
same content; the loss between them is given in parts of the loss between the photograph and
another one that has nothing to do with it, the same crop of the coffee cup of scikit-image. 0 is
no change, 1 as much as by another picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import skimage.data

from nstyle import images
from nstyle.losses import CONTENT_LOSSES
from nstyle.networks import weights
from nstyle.objective import Structure, features_of

SHIFTS = (1, 2, 4, 8)
SAMPLES = Path(skimage.data.__file__).parent


def changes(content: np.ndarray, other: np.ndarray, layer: str) -> pd.DataFrame:
    """Returns a row for each content loss, a column for each shift."""
    structure = Structure(content_layers=(layer,), style_layers=())
    params = jax.tree.map(jnp.asarray, weights.load().params)

    @jax.jit
    def features(picture: jax.Array) -> jax.Array:
        return features_of(structure, params, picture, (layer,))[layer]

    height, width = (min(sides) for sides in zip(content.shape[:2], other.shape[:2], strict=True))
    width -= max(SHIFTS)
    still, unrelated = (features(of[:height, :width]) for of in (content, other))
    rows = {}
    for name, kind in CONTENT_LOSSES.items():
        term = jax.jit(kind().distance)
        scale = float(term(unrelated, still))
        rows[name] = {
            f"{shift} px": float(term(features(content[:height, shift : shift + width]), still))
            / scale
            for shift in (0, *SHIFTS)
        }
    return pd.DataFrame(rows).T.rename_axis("content_loss")


def main() -> None:
    parser = argparse.ArgumentParser(description="How much content losses change by a shift.")
    parser.add_argument("--content", default=str(SAMPLES / "chelsea.png"))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--layer", default="conv4_2")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    content, other = (images.load(x, given.size) for x in (given.content, SAMPLES / "coffee.png"))
    table = changes(content, other, given.layer)
    print(table.round(3).to_string())
    if given.out is not None:
        table.to_csv(given.out)


if __name__ == "__main__":
    main()

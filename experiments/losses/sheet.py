"""One photograph in one style by every style loss and every content loss, as one sheet.

    python experiments/losses/sheet.py content=photo.jpg style=art.jpg out=sheet.jpg size=128

What else is given is a setting of every run; `losses=gram,mmd` makes these alone. A loss with an
option is written `mmd.kernel=gaussian`; content losses are `content:contextual`.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from omegaconf import OmegaConf

import nstyle
from nstyle.config import group_options

mpl.use("Agg")

import matplotlib.pyplot as plt

COLUMNS = 5


def settings_of(loss: str) -> dict[str, Any]:
    """Returns the settings that `gram`, `mmd.kernel=gaussian` or `content:contextual` stand for."""
    group, _, named = loss.rpartition(":")
    key = f"{group or 'style'}_loss"
    name, _, option = named.partition(".")
    found = {key: name}
    if option:
        option, _, value = option.partition("=")
        found[f"{key}.{option}"] = value
    return found


def every_loss() -> list[str]:
    """Returns all style losses, the Gaussian kernel with them, and all content losses."""
    style, content = (group_options(f"{kind}_loss") for kind in ("style", "content"))
    return [*style, "mmd.kernel=gaussian", *(f"content:{name}" for name in content)]


def sheet(pictures: dict[str, np.ndarray], out: Path) -> None:
    """Writes pictures with their names in rows of `COLUMNS`."""
    rows = -(-len(pictures) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(3 * COLUMNS, 2.6 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, picture) in zip(axes.flat, pictures.items(), strict=False):
        axis.imshow(picture)
        axis.set_title(name)
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    plt.close(figure)


def main() -> None:
    warnings.simplefilter("ignore")  # notes of a recipe's weights
    given: dict[str, Any] = dict(argument.split("=", 1) for argument in sys.argv[1:])
    out = Path(given.pop("out", "losses.jpg"))
    losses = given.pop("losses", "").split(",") if "losses" in given else every_loss()
    own = {key: OmegaConf.create({"value": value}).value for key, value in given.items()}
    pictures = {}
    for loss in losses:
        found = nstyle.stylize(**own, **settings_of(loss))
        pictures[loss] = found.image
        sheet(pictures, out)
        print(f"{loss:24} loss {found.loss:10.4g}  {found.stop}", flush=True)


if __name__ == "__main__":
    main()

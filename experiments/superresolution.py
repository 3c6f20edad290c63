"""What a network that makes pictures larger adds to a cubic: scores, and crops side by side.

    python experiments/superresolution.py MODEL pictures... out=sheet.jpg

Each picture is the original: it is reduced as in training, and enlarged again by the cubic, by the
cubic back-projected as the network's results are, and by the network. PSNR and SSIM are
`scores.fidelity`, LPIPS judges by AlexNet, on which the network was not trained. The crops are from
the middle, in full size.
"""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd

from nstyle import images
from nstyle.feedforward import models
from nstyle.feedforward.apply import painted_picture
from nstyle.feedforward.network import single_style
from nstyle.feedforward.resolution import back_projected, enlarged, reduced
from nstyle.scores import fidelity, lpips

#: Long side of a picture, and edge of its crop.
SIZE, CROP = 640, 160


def enlargements(model: models.Model, original: np.ndarray) -> dict[str, np.ndarray]:
    """Returns a picture as each way makes it again from its small version."""
    factor = factor_of(model)
    small = reduced(jnp.asarray(original)[None], factor)
    cubic = enlarged(small, factor)
    return {
        "bicubic": np.asarray(cubic[0]),
        "back-projected": np.asarray(back_projected(cubic, small, factor)[0]),
        "network": painted_picture(model, np.asarray(small[0]), single_style(model.architecture)),
    }


def factor_of(model: models.Model) -> int:
    """Returns how many times as large a model makes pictures."""
    if model.architecture.upscale is None:
        sys.exit("superresolution: this model paints; it needs one of nstyle-train upscale=4")
    return model.architecture.upscale


def main() -> None:
    settings = [argument for argument in sys.argv[1:] if argument.startswith("out=")]
    path, *files = [argument for argument in sys.argv[1:] if argument not in settings]
    model = models.read(path)
    rows, cells = [], []
    for file in files:
        picture = images.load(file)
        if max(picture.shape) > SIZE:
            picture = images.load(file, SIZE)
        height, width = (side - side % factor_of(model) for side in picture.shape[:2])
        original = picture[:height, :width]
        made = enlargements(model, original)
        for name, result in made.items():
            found = fidelity(result, original) | {"lpips": lpips(result, original)}
            rows.append({"picture": Path(file).stem, "by": name} | found)
        top, left = max(0, height - CROP) // 2, max(0, width - CROP) // 2
        cells.append(
            [
                image[top : top + CROP, left : left + CROP]
                for image in (made["bicubic"], made["network"], original)
            ]
        )
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    if settings:
        sheet = images.contact_sheet(cells, ["bicubic", "network", "original"], cell=CROP)
        images.save(settings[0].removeprefix("out="), sheet, quality=85)


if __name__ == "__main__":
    main()

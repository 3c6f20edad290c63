"""One photograph in two styles, blended and by regions, and with the content kept on one side.

    python experiments/regions.py content=photo.jpg style=[one.jpg,two.jpg] out=regions.jpg size=192

What else is given is a setting of every run. The label pictures are drawn for the photograph and
kept beside the sheet, to look at what such pictures are. Interrupted, it goes on where it stopped.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from nstyle import images
from nstyle.config import compose
from nstyle.runs.session import perform

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def masks(height: int, width: int) -> dict[str, np.ndarray]:
    """Returns label pictures in red and blue, and a grey picture from black to white."""
    y, x = (np.mgrid[:height, :width] + 0.5) / [[[height]], [[width]]]
    disc = np.hypot((x - 0.5) * width, (y - 0.5) * height) < 0.35 * min(height, width)
    parts = {"halves": x < 0.5, "diagonal": x + y < 1, "disc": disc}
    labels = {name: np.where(part[..., None], RED, BLUE) for name, part in parts.items()}
    return labels | {"ramp": np.repeat(x[..., None], 3, axis=2)}


def main() -> None:
    given = OmegaConf.to_container(OmegaConf.from_dotlist(sys.argv[1:]))
    assert isinstance(given, dict)
    out = Path(given.pop("out", "regions.jpg"))
    settings: dict[str, Any] = {"size": 192, "steps": 80, "scores": False}
    settings |= {"runs_dir": str(out.parent / "runs")} | {str(key): given[key] for key in given}
    photograph = images.load(settings["content"], settings["size"])

    def file(name: str) -> str:
        path = out.with_name(f"{out.stem}_{name}.png")
        images.save(path, drawn[name])
        return str(path)

    drawn = masks(*photograph.shape[:2])
    cases: dict[str, dict[str, Any]] = {
        "blend": {},
        **{
            f"regions: {name}": {"content_mask": file(name), "style_mask": ["red", "blue"]}
            for name in ("halves", "diagonal", "disc")
        },
        "content weights": {"content_weight_map": file("ramp"), "content_weight": 7.0},
    }
    results = []
    for name, own in cases.items():
        print(name, file=sys.stderr, flush=True)
        performed = perform(compose(**settings, **own))
        if performed.stop == "interrupted":
            sys.exit("regions: interrupted; the same command goes on")
        results.append(images.load(performed.folder / "result.png"))
    above = [photograph, *drawn.values()]
    sheet = images.contact_sheet([above, results], list(cases), ["drawn", "result"], cell=224)
    images.save(out, sheet, quality=90)
    print(out)


if __name__ == "__main__":
    main()

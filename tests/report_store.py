"""A store of runs as a sweep leaves it, with made-up numbers and small pictures."""

import itertools
import json
import math
import os
import shlex

import numpy as np
import pandas as pd

from nstyle import images
from nstyle.runs import store, stored
from nstyle.scores import SCORES, described

LAYERS = ("content/conv4_2", "style/conv1_1", "style/conv3_1")


def gradient(settings, random):
    """A small picture that tells the runs apart."""
    down, across = np.mgrid[0:1:24j, 0:1:32j]
    return np.stack([down, across, np.full_like(down, random.random())], axis=-1)


def numbers(settings, random):
    """Scores in which `pooling=max` is worse in style by about 0.1, with noise."""
    style = 0.5 + 0.1 * (settings.get("pooling") == "max") + 0.02 * random.standard_normal()
    return {
        "lpips_content": 0.9 - style + 0.02 * random.standard_normal(),
        "ssim_content": 0.3 + 0.02 * random.standard_normal(),
        "style_gram": style,
        "style_frechet": style / 2,
        "colour_histogram": None,
    }


def by_pair(settings, random):
    """Scores along a trade-off by weight; `max` is closer to the photograph by about 0.05.

    Each pair of pictures has its own place and its own effect.
    """
    pair = np.random.default_rng(int(settings["content"][-5]))
    along = 0.2 * math.log10(float(settings.get("style_weight", 10)))
    place, effect = 0.3 * pair.random(), 0.05 + 0.01 * pair.standard_normal()
    closer = effect * (settings.get("pooling") == "max")
    return {
        "lpips_content": 0.2 + along + place - closer + 0.004 * random.standard_normal(),
        "ssim_content": 0.6 - along + 0.01 * random.standard_normal(),
        "style_gram": 0.9 - along + 0.1 * pair.random() + 0.004 * random.standard_normal(),
        "style_frechet": 0.4 - along / 2 + 0.004 * random.standard_normal(),
        "colour_histogram": None,
    }


#: Of the layers in `trace`.
WEIGHTS = {
    "content": {"conv4_2": 1.0},
    "style": {"conv1_1": 5e4, "conv3_1": 5e4},
    "tv": 0.0,
}


def trace(random, steps=150, left=False):
    """A trace that falls, each at its own pace; with what is left of content and style."""
    step = np.arange(steps + 1)
    fall = np.exp(-step / (10 + 10 * random.random()))
    terms = {
        "content/conv4_2": 0.4 * (1 - 0.9 * fall) + 1e-3,
        "style/conv1_1": 1e-5 * (0.5 + 50 * fall),
        "style/conv3_1": 1e-4 * (0.2 + random.random() + 20 * fall),
    }
    content, style = (
        terms["content/conv4_2"],
        5e4 * (terms["style/conv1_1"] + terms["style/conv3_1"]),
    )
    weighted = {"loss": content + style, "content": content, "style": style, "tv": 0.0 * content}
    rest = {"gradient_norm": fall, "restarts": 0 * step}
    best = {"best_loss": np.minimum.accumulate(weighted["loss"])}
    best |= {"content_left": 0.8 * (1 - fall), "style_left": 0.1 + 0.9 * fall} if left else {}
    columns = {"step": step} | weighted | best | rest | terms | {"tv/raw": 1 + fall}
    return pd.DataFrame(columns)


def make_run(folder, settings, command, picture=gradient, scores=numbers, seed=0, left=False):
    """Writes the folder of a finished run; with `left`, one of dimensionless losses."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    rows = trace(random, left=left)
    rows.to_csv(folder / "trace.csv", index=False)
    images.save(folder / "result.png", picture(settings, random))
    config = {"content": "photo.jpg", "style": "art.jpg", "seed": 0, "solver": {"name": "lbfgs"}}
    result = {
        "stop": "steps",
        "steps": len(rows) - 1,
        "best": rows.iloc[int(rows["loss"].argmin())].to_dict(),
        "seconds": round(10 + random.random(), 3),
        "compiles": int(seed == 0),
        "command": command,
        "inputs": {"content": "0" * 64, "style": "1" * 64},
        "environment": {
            "python": "3.11.7",
            "device": "cpu: cpu",
            "jax": "0.10.2",
            "nstyle": "0.1.0",
        },
        "config": config | settings,
    }
    if left:
        result["weights"] = WEIGHTS
    (folder / "config.yaml").write_text(json.dumps(result["config"]))
    write_result(folder, result)
    picture = stored.digest(folder / "result.png")
    own = scores(settings, random)
    known = described({name: SCORES[name] for name in own})
    found = {"scores": own, "measures": known, "picture": picture}
    stored.write_json(folder / "scores.json", "scores", found)


def write_result(folder, result):
    """Writes what a run ended with, and the hashes of the files that are there."""
    files = {name: stored.digest(folder / name) for name in store.FILES}
    stored.write_json(folder / "result.json", "result", result | {"files": files})


def with_pair(settings, root):
    """Settings with `pair` replaced by the two pictures that it stands for, which are there."""
    pair = settings.pop("pair", None)
    if pair is None:
        return settings
    random = np.random.default_rng(int(pair))
    for name, shape in (("photo", (30, 40, 3)), ("art", (40, 30, 3))):
        if not (path := root / f"{name}-{pair}.png").is_file():
            images.save(path, np.broadcast_to(random.random(3), shape))
    return settings | {
        "content": str(root / f"photo-{pair}.png"),
        "style": str(root / f"art-{pair}.png"),
    }


def make_sweep(root, parameters, missing=(), name="pooling", **how):
    """Writes runs for every combination of levels, but those of the indices `missing`, and a sweep.

    An axis `pair` stands for a photograph and a painting: two parameters of the sweep.

    Returns:
      The sweep's folder.
    """
    sweep = root / "runs" / "sweeps" / f"{name}-0123456789ab"
    members = []
    for index, levels in enumerate(itertools.product(*parameters.values())):
        settings = with_pair(dict(zip(parameters, levels, strict=True)), root)
        folder = root / "runs" / f"photo-art-{index:012x}"
        if index not in missing:
            words = (f"{key}={value}" for key, value in settings.items())
            make_run(folder, settings, shlex.join(["nstyle", *words]), seed=index, **how)
        members.append({"folder": os.path.relpath(folder, sweep), "settings": settings})
    sweep.mkdir(parents=True)
    names = dict.fromkeys(name for member in members for name in member["settings"])
    parameters = {
        name: list(dict.fromkeys(member["settings"][name] for member in members)) for name in names
    }
    words = (f"{key}={','.join(levels)}" for key, levels in parameters.items())
    content = {
        "name": name,
        "command": shlex.join(["nstyle", "-m", *words]),
        "parameters": parameters,
        "runs": members,
    }
    stored.write_json(sweep / "sweep.json", "sweep", content)
    return sweep

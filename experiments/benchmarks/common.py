"""What the benchmarks share: pictures, the default recipe's problem, results as JSON."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from nstyle import images, weights
from nstyle.objective import LossWeights, Problem, Structure
from nstyle.runs import environment
from nstyle.transfer import equal_weights, prepare

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "images"
OWN = ROOT / "experiments" / "demo" / "styles"


def parser(document: str | None, size: int) -> argparse.ArgumentParser:
    """Returns a parser with the pictures, the size and where to write JSON.

    The pictures are those of the published figures where they are at hand, else this project's.
    """
    found = argparse.ArgumentParser(description=(document or "").splitlines()[0])
    for name, shared, own in (
        ("content", "tubingen.jpg", "mosaic.jpg"),
        ("style", "starry_night.jpg", "swirls.jpg"),
    ):
        default = SHARED / shared if (SHARED / shared).is_file() else OWN / own
        found.add_argument(f"--{name}", type=Path, default=default)
    found.add_argument("--size", type=int, default=size)
    found.add_argument("--json", type=Path)
    return found


def default_problem(
    options: argparse.Namespace, structure: Structure
) -> tuple[Problem, np.ndarray]:
    """Returns the default recipe's problem, and white noise (NumPy seed 0) to start from."""
    loss_weights = LossWeights(
        equal_weights(structure.content_layers, 1.0), equal_weights(structure.style_layers, 1e5)
    )
    content, style = (
        jnp.asarray(images.load(path, options.size)) for path in (options.content, options.style)
    )
    problem = prepare(structure, weights.load().params, loss_weights, content, style)
    return problem, np.random.default_rng(0).random(content.shape, np.float32)


def write(path: Path | None, results: Mapping[str, Any]) -> None:
    """Writes results with the machine's description, where a path is given."""
    if path is not None:
        path.write_text(json.dumps({**results, "environment": environment()}, indent=2) + "\n")

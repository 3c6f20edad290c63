"""What the benchmarks share: pictures, the default recipe's problem, rivals, results as JSON."""

import argparse
import contextlib
import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import fmin_l_bfgs_b

from nstyle import images
from nstyle.networks import turned, weights
from nstyle.objective import LossWeights, Problem, Structure
from nstyle.objective.problems import equal_weights, prepare
from nstyle.runs.store import environment
from nstyle.solvers import LBFGS, Objective
from nstyle.solvers.compiled import compiled

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "images"
NEEDS_TORCH = "needs torch: pip install 'nstyle[torch]'"
OWN = ROOT / "experiments" / "demo" / "styles"


def parser(document: str | None, size: int | None) -> argparse.ArgumentParser:
    """Returns a parser with the pictures, the size unless it is None, and where to write JSON.

    The pictures are those of the published figures where they are at hand, else this project's.
    """
    found = argparse.ArgumentParser(description=(document or "").splitlines()[0])
    for name, shared, own in (
        ("content", "tubingen.jpg", "mosaic.jpg"),
        ("style", "starry_night.jpg", "swirls.jpg"),
    ):
        default = SHARED / shared if (SHARED / shared).is_file() else OWN / own
        found.add_argument(f"--{name}", type=Path, default=default)
    if size is not None:
        found.add_argument("--size", type=int, default=size)
    found.add_argument("--json", type=Path)
    return found


#: The objective of these benchmarks as settings: raw Gram matrices, no total variation, so that
#: their figures compare with earlier ones and with other programs.
OBJECTIVE = {
    "recipe": "plain",
    "balance": False,
    "style_weight": 1e5,
    "style_falloff": 1.0,
    "tv_weight": 0.0,
    "padding": "zeros",
    "pyramid.factor": 2.0,
    "pyramid.steps": 30,
    "pyramid.noise": 0.05,
    "pyramid.least": 128,
    "steps": 100,
    "tolerance": 0.0,
}


def default_problem(
    options: argparse.Namespace, structure: Structure
) -> tuple[Problem, np.ndarray]:
    """Returns the problem of `OBJECTIVE`, and white noise of NumPy seed 0."""
    loss_weights = LossWeights(
        equal_weights(structure.content_layers, 1.0), equal_weights(structure.style_layers, 1e5)
    )
    content, style = (
        jnp.asarray(images.load(path, options.size)) for path in (options.content, options.style)
    )
    params = turned(weights.load().params, structure.network)
    problem = prepare(structure, params, loss_weights, content, style)
    return problem, np.random.default_rng(0).random(content.shape, np.float32)


def write(path: Path | None, results: Mapping[str, Any]) -> None:
    """Writes results with the machine's description, where a path is given."""
    if path is not None:
        path.write_text(json.dumps({**results, "environment": environment()}, indent=2) + "\n")


def needs_torch() -> None:
    """Ends the process with a line where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        fail(NEEDS_TORCH)


def fail(line: str) -> None:
    """Ends the process with a line and exit status 2."""
    print(line, file=sys.stderr)
    sys.exit(2)


def seconds_of(call: Callable[[], Any]) -> float:
    """Returns the seconds that a call takes, its arrays ready."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def steps_in_turns(
    objective: Objective,
    problem: Problem,
    start: np.ndarray,
    other: Callable[[], Any],
    rounds: int,
) -> list[tuple[float, float]]:
    """Returns the seconds of L-BFGS's steps and of another call, in turns, compilation apart."""
    functions = compiled(objective, LBFGS())
    image = jnp.asarray(start)
    memory = functions.blank(image)

    def step() -> Any:
        nonlocal image, memory
        found = functions.step(image, memory, problem)
        image, memory = found.image, functions.remember(memory, found.memory)
        return image, memory

    step()  # which stays where it is
    memory = functions.arm(np.True_, np.float32(1.0), image, memory)

    timings = [(seconds_of(step), seconds_of(other)) for _ in range(rounds + 1)]
    return timings[1:]


class Sample(NamedTuple):
    """An evaluation: seconds since the clock began, its number from 1, the lowest loss so far."""

    seconds: float
    evaluations: int
    loss: float


class LimitReachedError(Exception):
    """An evaluation was the last one; raised through solvers that would go on."""


@dataclass
class Curve:
    """The lowest loss against time; the clock begins when the curve is made.

    Attributes:
      target: the loss at which it ends.
      evaluations: after so many it ends.
      seconds: the first evaluation after so many is the last.
    """

    target: float = -math.inf
    evaluations: float = math.inf
    seconds: float = math.inf
    samples: list[Sample] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def add(self, loss: float) -> None:
        """Adds an evaluation.

        Raises:
          LimitReachedError: it was the last: a limit is reached, or the loss is not finite.
        """
        lowest = self.samples[-1].loss if self.samples else math.inf
        sample = Sample(time.perf_counter() - self.began, len(self.samples) + 1, min(lowest, loss))
        self.samples.append(sample)
        over = sample.evaluations >= self.evaluations or sample.seconds >= self.seconds
        if over or sample.loss <= self.target or not math.isfinite(loss):
            raise LimitReachedError

    def end(self) -> Sample:
        """Returns the first evaluation with the lowest loss."""
        return min(self.samples, key=lambda sample: sample.loss)


def scipy_lbfgs(
    value_and_grad: Callable[..., Any], start: np.ndarray, problem: Problem, curve: Curve
) -> None:
    """Minimises with SciPy's `fmin_l_bfgs_b` (m = 10), one call without rounds, to a curve's end.

    Args:
      value_and_grad: compiled, (picture, problem) -> ((loss, terms), gradient).
      start: the first picture.
      problem: see `value_and_grad`.
      curve: gets every evaluation.
    """

    def function(flat: np.ndarray) -> tuple[float, np.ndarray]:
        image = jnp.asarray(flat.reshape(start.shape), jnp.float32)
        (value, _), gradient = value_and_grad(image, problem)
        gradient = np.asarray(gradient, np.float64).ravel()
        curve.add(float(value))
        return float(value), gradient

    with contextlib.suppress(LimitReachedError):
        fmin_l_bfgs_b(
            function, start.ravel().astype(np.float64), m=10, maxfun=10**6, factr=0, pgtol=0
        )

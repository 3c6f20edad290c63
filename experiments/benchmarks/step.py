"""A step of L-BFGS against a bare evaluation, and the loss it reaches against SciPy's.

    python experiments/benchmarks/step.py [--content FILE] [--style FILE] [--size 256]

From uniform white noise (NumPy seed 0), with the default recipe's objective, on the same compiled
function, side by side in one process:

- time of a step over time of a bare jitted `value_and_grad`, the two taken in turns;
- loss after so many evaluations, over the loss of SciPy's `fmin_l_bfgs_b` (m = 10) after as many.

Prints both ratios, and writes them with the machine as JSON where `--json FILE` is given.
"""

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import fmin_l_bfgs_b

from nstyle import images, weights
from nstyle.objective import LossWeights, Problem, Structure
from nstyle.runs import environment
from nstyle.solver import LBFGS, Stopping, compile_steps, minimize
from nstyle.transfer import equal_weights, objective, prepare

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "images"


def default_picture(shared: str, own: str) -> Path:
    """Returns the picture of the published figures where it is at hand, else one of our own."""
    return SHARED / shared if (SHARED / shared).is_file() else ROOT / own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    styles = "experiments/demo/styles"
    content = default_picture("tubingen.jpg", f"{styles}/mosaic.jpg")
    style = default_picture("starry_night.jpg", f"{styles}/swirls.jpg")
    parser.add_argument("--content", type=Path, default=content)
    parser.add_argument("--style", type=Path, default=style)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20, help="pairs of timings")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    network = weights.load()
    structure = Structure()
    loss_weights = LossWeights(
        equal_weights(structure.content_layers, 1.0), equal_weights(structure.style_layers, 1e5)
    )
    picture = images.load(options.content, options.size)
    problem = prepare(
        structure,
        network.params,
        loss_weights,
        jnp.asarray(picture),
        jnp.asarray(images.load(options.style, options.size)),
    )
    start = np.random.default_rng(0).random(picture.shape, np.float32)
    function = objective(structure)
    value_and_grad = jax.jit(jax.value_and_grad(function, has_aux=True))

    print(f"{picture.shape[1]} x {picture.shape[0]} px, timing in turns", flush=True)
    steps = compile_steps(function, LBFGS())
    state = jax.block_until_ready(steps.start(jnp.asarray(start), problem, 1.0))
    jax.block_until_ready(value_and_grad(state.image, problem))
    bare_times, step_times = [], []
    for _ in range(options.rounds):
        began = time.perf_counter()
        jax.block_until_ready(value_and_grad(state.image, problem))
        between = time.perf_counter()
        state = jax.block_until_ready(steps.step(state, problem))
        bare_times.append(between - began)
        step_times.append(time.perf_counter() - between)
    bare, step = statistics.median(bare_times), statistics.median(step_times)
    ratio = statistics.median(s / b for s, b in zip(step_times, bare_times, strict=True))
    print(f"bare evaluation {bare:.3f} s, step {step:.3f} s, step / bare {ratio:.3f}", flush=True)

    for last in minimize(
        function, jnp.asarray(start), problem, stopping=Stopping(steps=options.evaluations - 1)
    ):
        pass
    print(f"ours after {options.evaluations} evaluations: {last.best_value:.3f}", flush=True)
    scipy_loss = scipy_best(value_and_grad, start, problem, options.evaluations)
    print(f"SciPy after as many: {scipy_loss:.3f}, ours / SciPy {last.best_value / scipy_loss:.3f}")

    if options.json:
        results = {
            "size": list(picture.shape[:2]),
            "bare_seconds": bare,
            "step_seconds": step,
            "step_over_bare": ratio,
            "evaluations": options.evaluations,
            "loss": last.best_value,
            "scipy_loss": scipy_loss,
            "environment": environment(),
        }
        options.json.write_text(json.dumps(results, indent=2) + "\n")


class _BudgetSpentError(Exception):
    pass


def scipy_best(
    value_and_grad: Callable[..., Any], start: np.ndarray, problem: Problem, evaluations: int
) -> float:
    """Returns the lowest loss that SciPy's L-BFGS-B sees in exactly so many evaluations."""
    values: list[float] = []

    def function(flat: np.ndarray) -> tuple[float, np.ndarray]:
        if len(values) == evaluations:
            raise _BudgetSpentError
        image = jnp.asarray(flat.reshape(start.shape), jnp.float32)
        (value, _), gradient = value_and_grad(image, problem)
        values.append(float(value))
        return float(value), np.asarray(gradient, np.float64).ravel()

    with contextlib.suppress(_BudgetSpentError):
        fmin_l_bfgs_b(function, start.ravel().astype(np.float64), m=10, maxfun=10**6, factr=0)
    return min(values)


if __name__ == "__main__":
    main()

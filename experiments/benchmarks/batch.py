"""Runs of a sweep optimised together, and one after another.

    python experiments/benchmarks/batch.py [--size 64] [--runs 4] [--steps 20] [--rounds 3]
    python experiments/benchmarks/batch.py --size 256 --runs 16 --steps 100    # for a GPU

Runs of the default recipe that differ in style weight and noise, from the same compiled step each
way, side by side in one process: all of them one after another, then together, and again. With
several devices the batch is spread over all of them. Compilation is not counted.

Prints a table, and writes it with the machine as JSON where `--json FILE` is given.
"""

import statistics
import time
from collections.abc import Sequence

import common
import jax
import jax.numpy as jnp
import numpy as np

from nstyle import images
from nstyle.objective import LossWeights, Problem, Structure
from nstyle.objective.problems import equal_weights, objective
from nstyle.solvers import LBFGS, Objective, Step, Stopping, minimize, minimize_together


def main() -> None:
    parser = common.parser(__doc__, size=64)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3, help="timings of each way")
    parser.add_argument("--history", type=int, default=50)
    options = parser.parse_args()

    structure = Structure()
    problem, _ = common.default_problem(options, structure)
    problems = [
        problem._replace(
            weights=LossWeights(
                equal_weights(structure.content_layers, 1.0),
                equal_weights(structure.style_layers, style),
            )
        )
        for style in np.geomspace(1e4, 1e6, options.runs)
    ]
    height, width = images.load(options.content, options.size).shape[:2]
    starts = np.random.default_rng(0).random((options.runs, height, width, 3), np.float32)
    function, method = objective(structure), LBFGS(history_size=options.history)

    ways = {"one after another": one_after_another, "together": together}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in ways}
    losses: dict[str, list[float]] = {}
    print(f"{options.runs} runs of {options.steps} steps at {width} x {height} px", flush=True)
    for name, way in ways.items():
        way(function, starts, problems, method, Stopping(1))
    for _ in range(options.rounds):
        for name, way in ways.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            losses[name] = way(function, starts, problems, method, Stopping(options.steps))
            seconds[name].append(time.perf_counter() - began)
            cpu_seconds[name].append(time.process_time() - cpu_began)

    medians = {name: statistics.median(found) for name, found in seconds.items()}
    cpu_medians = {name: statistics.median(found) for name, found in cpu_seconds.items()}
    evaluations = options.runs * (options.steps + 1)
    print(f"{'':20}{'seconds':>10}{'cpu s':>10}{'steps/s':>10}{'runs/min':>10}")
    for name, median in medians.items():
        rates = evaluations / median, 60 * options.runs / median
        print(f"{name:20}{median:10.2f}{cpu_medians[name]:10.2f}{rates[0]:10.2f}{rates[1]:10.2f}")
    speedup = medians["one after another"] / medians["together"]
    apart = [
        abs(one / other - 1)
        for one, other in zip(losses["one after another"], losses["together"], strict=True)
    ]
    print(
        f"together is {speedup:.2f} times as fast; last losses differ by {max(apart):.1e} at most"
    )
    common.write(
        options.json,
        {
            "size": [height, width],
            "runs": options.runs,
            "steps": options.steps,
            "devices": len(jax.devices()),
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "speedup": speedup,
            "losses": losses,
        },
    )


def one_after_another(
    function: Objective,
    starts: np.ndarray,
    problems: Sequence[Problem],
    method: LBFGS,
    stopping: Stopping,
) -> list[float]:
    """Returns the lowest loss of each run."""
    losses = []
    for start, problem in zip(starts, problems, strict=True):
        for last in minimize(function, jnp.asarray(start), problem, method, stopping):
            pass
        losses.append(last.best_value)
    return losses


def together(
    function: Objective,
    starts: np.ndarray,
    problems: Sequence[Problem],
    method: LBFGS,
    stopping: Stopping,
) -> list[float]:
    """Returns the lowest loss of each run."""
    devices = jax.devices() if len(jax.devices()) > 1 else None
    for last in minimize_together(
        function, [*jnp.asarray(starts)], problems, method, stopping, devices=devices
    ):
        pass
    return [step.best_value for step in last if isinstance(step, Step)]


if __name__ == "__main__":
    main()

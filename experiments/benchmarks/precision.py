"""Where a run ends by the precision of its network, and how long its steps take.

    python experiments/benchmarks/precision.py [--size 64] [--steps 30] [--precisions bfloat16 ...]
    python experiments/benchmarks/precision.py --size 512 --steps 200    # for a GPU

The default recipe's problem from the same noise with each precision. `loss` is what the run itself
found, `as float32` the loss of its best picture evaluated with float32; compilation is not counted.

Prints a table, and writes it with the machine as JSON where `--json FILE` is given.
"""

import dataclasses
import time
from typing import Any

import common
import jax
import jax.numpy as jnp

from nstyle.networks import PRECISIONS
from nstyle.objective import Structure
from nstyle.objective.problems import objective
from nstyle.objective.stages import transfer
from nstyle.solvers import Stopping


def main() -> None:
    parser = common.parser(__doc__, size=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    options = parser.parse_args()

    full = Structure()
    reference, start = common.default_problem(options, full)
    evaluate = jax.jit(objective(full))
    rows: dict[str, dict[str, Any]] = {}
    print(f"{'precision':12}{'seconds':>10}{'steps/s':>10}{'loss':>14}{'as float32':>14}")
    for name in options.precisions:
        structure = dataclasses.replace(full, precision=name)
        problem, _ = common.default_problem(options, structure)
        image = jnp.asarray(start)
        for _ in transfer(structure, problem, image, stopping=Stopping(1)):
            pass
        began = time.perf_counter()
        for last in transfer(structure, problem, image, stopping=Stopping(options.steps)):
            pass
        seconds = time.perf_counter() - began
        loss, _ = evaluate(last.best_image(), reference)
        rows[name] = {
            "seconds": seconds,
            "steps": last.step,
            "stop": last.stop,
            "loss": last.best_value,
            "loss_as_float32": float(loss),
        }
        rate = (last.step + 1) / seconds
        print(f"{name:12}{seconds:10.2f}{rate:10.2f}{last.best_value:14.6g}{float(loss):14.6g}")
    common.write(options.json, {"size": options.size, "steps": options.steps, "precisions": rows})


if __name__ == "__main__":
    main()

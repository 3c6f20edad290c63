"""How near a step comes to the machine's limit: its FLOP/s over a large matrix product's.

    python experiments/benchmarks/limit.py [--sizes 256 512] [--matrix 4096] [--rounds 10]

A step of L-BFGS on the default recipe's objective, from white noise, and a jitted float32 product
of two square matrices, in turns in one process. The arithmetic of a step is that of its
convolutions, forward and backward to their inputs (`layers.gradient_flops`). Gram matrices, pooling
and the solver take time but count for nothing.

Prints a table of medians, and writes it with the machine as JSON where `--json FILE` is given.
"""

import statistics
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np

from nstyle.networks import gradient_flops
from nstyle.objective import Structure
from nstyle.objective.problems import objective

STRUCTURE = Structure()


def main() -> None:
    parser = common.parser(__doc__, size=None)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--matrix", type=int, default=4096, help="rows and columns")
    parser.add_argument("--rounds", type=int, default=10, help="pairs of timings")
    options = parser.parse_args()

    rows = []
    for size in options.sizes:
        options.size = size
        problem, start = common.default_problem(options, STRUCTURE)
        row = compared(problem, start, options.matrix, options.rounds)
        rows.append({"size": size} | row)
        print(
            f"{start.shape[1]} x {start.shape[0]} px: step {row['step_seconds']:.3f} s,"
            f" {row['step_gflops']:.0f} GFLOP/s; matrix product {row['matrix_gflops']:.0f} GFLOP/s;"
            f" step / product {100 * row['share']:.0f} %",
            flush=True,
        )
    common.write(options.json, {"matrix": options.matrix, "rows": rows})


def compared(problem: Any, start: np.ndarray, edge: int, rounds: int) -> dict[str, float]:
    """Returns the speeds of a step and of a matrix product, and their ratio, timed in turns."""
    generator = np.random.default_rng(0)
    left, right = (jnp.asarray(generator.random((edge, edge), np.float32)) for _ in range(2))
    multiply = jax.jit(jnp.matmul)
    pairs = common.steps_in_turns(
        objective(STRUCTURE), problem, start, lambda: multiply(left, right), rounds
    )
    of_step = gradient_flops(STRUCTURE.layers, STRUCTURE.network, start.shape)
    of_product = 2.0 * edge**3
    step_seconds, product_seconds = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {
        "step_seconds": step_seconds,
        "step_gflops": of_step / step_seconds / 1e9,
        "matrix_gflops": of_product / product_seconds / 1e9,
        "share": statistics.median((of_step / a) / (of_product / b) for a, b in pairs),
    }


if __name__ == "__main__":
    main()

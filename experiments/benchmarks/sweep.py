"""How much of a sweep's time is the network's: three style weights, two poolings, two seeds.

    python experiments/benchmarks/sweep.py [--size 96] [--steps 200]

Runs the sweep as a user does, in a process of its own with an empty store and an empty compilation
cache; before and after, the bare jitted `value_and_grad` of both poolings is timed here. Everything
that is not evaluations times their bare time counts as overhead: start, imports, planning,
compilation, solver, writing, scores.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import jax
import jax.numpy as jnp

from nstyle.objective import Structure
from nstyle.transfer import objective


def bare_seconds(pooling: str, options: argparse.Namespace, rounds: int = 40) -> float:
    """Returns the median time of a bare evaluation."""
    structure = dataclasses.replace(Structure(), pooling=pooling)
    problem, start = common.default_problem(options, structure)
    image = jnp.asarray(start)
    value_and_grad = jax.jit(jax.value_and_grad(objective(structure), has_aux=True))
    jax.block_until_ready(value_and_grad(image, problem))
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready(value_and_grad(image, problem))
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = common.parser(__doc__, size=96)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()

    bare = {pooling: [bare_seconds(pooling, options)] for pooling in ("avg", "max")}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-c", "from nstyle.cli import main; main()", "-m"),
            *(f"content={options.content.resolve()}", f"style={options.style.resolve()}"),
            *(f"size={options.size}", f"steps={options.steps}", "init=noise"),
            *("style_weight=1e4,1e5,1e6", "pooling=avg,max", "seed=0,1"),
        ]
        cache = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled"}
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, env=os.environ | cache, check=True)
        wall = time.perf_counter() - began
        results = [json.loads(path.read_text()) for path in Path(folder).glob("runs/*/result.json")]

    network = 0.0
    for pooling, times in bare.items():
        times.append(bare_seconds(pooling, options))
        of_pooling = [result for result in results if result["config"]["pooling"] == pooling]
        evaluations = sum(result["steps"] + 1 for result in of_pooling)
        network += evaluations * statistics.mean(times)
    compiles = sum(result["compiles"] for result in results)
    overhead = 1 - network / wall
    print(
        f"{len(results)} runs of {options.steps} steps at {options.size} px: {wall:.1f} s,"
        f" {network:.1f} s of them network; overhead {100 * overhead:.1f} %; compiles {compiles}"
    )
    common.write(
        options.json,
        {
            "runs": len(results),
            "steps": options.steps,
            "size": options.size,
            "wall_seconds": wall,
            "network_seconds": network,
            "overhead": overhead,
            "compiles": compiles,
        },
    )


if __name__ == "__main__":
    main()

"""A sweep as a user runs it: how much of its time is the network's, and what batches bring.

    python experiments/benchmarks/sweep.py [--size 96] [--steps 200]
    python experiments/benchmarks/sweep.py --size 64 --steps 20 --batch 4
    ... --size 256 --poolings avg --weights 10 --seeds 16 --batch auto    # for a GPU

Style weights, poolings and seeds at one size, in a process of its own with an empty store and an
empty compilation cache; before and after, the bare jitted `value_and_grad` of each pooling is timed
here. Everything that is not evaluations times their bare time counts as overhead: start, imports,
planning, compilation, solver, writing, scores. With `--batch` the same sweep runs once more with
that setting; `optimising` is the time of the runs themselves, from their first compilation to their
last picture, without start, planning and scores.

Prints a table, and writes it with the machine as JSON where `--json FILE` is given.
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
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp

from nstyle.networks import POOLINGS
from nstyle.objective import Structure
from nstyle.objective.problems import objective


def bare_seconds(pooling: str, options: argparse.Namespace, rounds: int = 40) -> float:
    """Returns the median time of a bare evaluation."""
    structure = dataclasses.replace(Structure(), pooling=POOLINGS[pooling]())
    problem, start = common.default_problem(options, structure)
    image = jnp.asarray(start)
    value_and_grad = jax.jit(jax.value_and_grad(objective(structure), has_aux=True))
    times = [common.seconds_of(lambda: value_and_grad(image, problem)) for _ in range(rounds + 1)]
    return statistics.median(times[1:])  # the first one compiles


class Swept(NamedTuple):
    """A sweep that was timed: the setting `batch`, its seconds, and `result.json` of each run."""

    batch: str
    wall: float
    results: list[dict[str, Any]]

    @property
    def optimising(self) -> float:
        """The seconds of the runs themselves; those of a batch have theirs in common."""
        return sum(result["seconds"] / result["batch"] for result in self.results)

    @property
    def evaluations(self) -> int:
        """One for each step, and one for the first picture."""
        return sum(result["steps"] + 1 for result in self.results)


def sweep(options: argparse.Namespace, batch: str) -> Swept:
    """Runs the sweep with a setting of `batch`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-c", "from nstyle.cli import main; main()", "-m"),
            *(f"content={options.content.resolve()}", f"style={options.style.resolve()}"),
            *(f"size={options.size}", f"steps={options.steps}", "pyramid.levels=1", "init=noise"),
            f"style_weight={','.join(options.weights)}",
            f"pooling={','.join(options.poolings)}",
            f"seed={','.join(map(str, range(options.seeds)))}",
            f"batch={batch}",
        ]
        cache = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled"}
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, env=os.environ | cache, check=True)
        wall = time.perf_counter() - began
        paths = Path(folder).glob("runs/*/result.json")
        return Swept(batch, wall, [json.loads(path.read_text()) for path in paths])


def main() -> None:
    parser = common.parser(__doc__, size=96)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--weights", nargs="+", default=["3", "10", "30"])
    parser.add_argument("--poolings", nargs="+", default=["avg", "max"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--batch", help="a second sweep with this setting, a number or auto")
    options = parser.parse_args()

    bare = {pooling: [bare_seconds(pooling, options)] for pooling in options.poolings}
    ways = [sweep(options, "1")]
    for pooling, times in bare.items():
        times.append(bare_seconds(pooling, options))
    if options.batch is not None:
        ways.append(sweep(options, options.batch))

    network = 0.0
    for pooling, times in bare.items():
        alike = [one for one in ways[0].results if one["config"]["pooling"]["name"] == pooling]
        network += sum(one["steps"] + 1 for one in alike) * statistics.mean(times)
    overhead = 1 - network / ways[0].wall
    print(
        f"{len(ways[0].results)} runs of {options.steps} steps at {options.size} px: one after"
        f" another {ways[0].wall:.1f} s, {network:.1f} s of them network; overhead"
        f" {100 * overhead:.1f} %"
    )
    columns = ("batch", "together", "compiles", "seconds", "runs/min", "optimising", "steps/s")
    print("".join(f"{name:>12}" for name in columns))
    rows = []
    for way in ways:
        count = len(way.results)
        rows.append(
            {
                "batch": way.batch,
                "together": max(result["batch"] for result in way.results),
                "compiles": sum(result["compiles"] for result in way.results),
                "seconds": way.wall,
                "runs/min": 60 * count / way.wall,
                "optimising": way.optimising,
                "steps/s": way.evaluations / way.optimising,
                "losses": [result["best"]["loss"] for result in way.results],
            }
        )
        cells = (rows[-1][name] for name in columns)
        print(
            "".join(
                f"{cell:>12.2f}" if isinstance(cell, float) else f"{cell:>12}" for cell in cells
            )
        )
    if options.batch is not None:
        first, second = ways
        print(
            f"batch={options.batch}: {first.wall / second.wall:.2f} times the throughput,"
            f" {first.optimising / second.optimising:.2f} times that of the runs themselves"
        )
    common.write(
        options.json,
        {
            "runs": len(ways[0].results),
            "steps": options.steps,
            "size": options.size,
            "devices": len(jax.devices()),
            "network_seconds": network,
            "overhead": overhead,
            "ways": rows,
        },
    )


if __name__ == "__main__":
    main()

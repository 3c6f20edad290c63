"""Peak memory and time of one loss and gradient: by tiles, whole, and whole in PyTorch.

    python experiments/benchmarks/tiles.py [--sizes 512 1024 2048 4096] [--budget 4] [--json FILE]

Square pictures of uniform noise (NumPy seed 0), the default recipe's objective. Each row has a
process of its own, as a process's peak never falls:

- `tiled`, `whole` and `torch` (whole, channels last): peak memory and the time of one evaluation,
  targets and compilation apart; every process has imported JAX, that of `torch` PyTorch besides;
- `ratio`: both in one process in turns, so that a busy machine troubles both alike; tiled over
  whole by the best of each, in seconds a pixel and in seconds of all cores a pixel. Above 1024
  pixels what is done whole is a picture of that size.

A size is not done whole where it is above `--whole-to` or the machine's memory. Processes take
their memory in large pages, as the command `nstyle` does (`nstyle.huge_pages`); with
`--small-pages` each row comes once more without. Prints a table, and writes it with the machine as
JSON where `--json FILE` is given.
"""

import argparse
import functools
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np

from nstyle.networks import NETWORKS, turned, weights
from nstyle.objective import LossWeights, Problem, Structure, Targets, memory, tiles
from nstyle.objective.problems import equal_weights, objective
from nstyle.process import huge_pages

STRUCTURE = Structure()
LOSS_WEIGHTS = LossWeights(
    equal_weights(STRUCTURE.content_layers, 1.0), equal_weights(STRUCTURE.style_layers, 1e5)
)
STYLE_SIZE = 512

#: Size done whole that larger ones by tiles are compared with.
WHOLE_SIZE = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--budget", type=float, default=4.0, help="GiB that decides the tile")
    parser.add_argument("--tile", type=int, help="instead of the tile that the budget decides")
    parser.add_argument("--whole-to", type=int, default=2048, help="largest size done whole")
    parser.add_argument(
        "--ratio-at", type=int, nargs="*", default=[1024, 4096], help="sizes of `ratio`"
    )
    parser.add_argument("--rounds", type=int, default=2, help="timings, of which the best counts")
    parser.add_argument("--small-pages", action="store_true", help="each row with these too")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        (size,) = options.sizes
        if os.environ.items() >= huge_pages.ENVIRONMENT.items():
            huge_pages.keep_for_tiles()
        print(json.dumps(ROWS[options.row](size, options.tile, options.rounds)))
        return

    whole_kinds = ["whole", "torch"]
    if importlib.util.find_spec("torch") is None:
        print(f"no rows of PyTorch: {common.NEEDS_TORCH}")
        whole_kinds.remove("torch")
    rows = []
    pages = {"large": huge_pages.ENVIRONMENT} | ({"small": {}} if options.small_pages else {})
    for size in options.sizes:
        shape = (size, size)
        tile = options.tile or memory.tile_for(STRUCTURE, shape, int(options.budget * 2**30))
        kinds = ["tiled"]
        whole_bytes = NETWORKS[STRUCTURE.network].evaluation_bytes * size**2
        if size <= options.whole_to and whole_bytes <= machine_bytes():
            kinds += whole_kinds
        else:
            print(f"{size} px is not done whole: that takes about {whole_bytes / 2**30:.1f} GiB")
        kinds += ["ratio"] * (size in options.ratio_at)
        for kind, (page, environment) in itertools.product(kinds, pages.items()):
            row = {"kind": kind, "size": size, "pages": page}
            row |= measured(kind, size, tile, options.rounds, environment)
            if kind not in whole_kinds:
                row["tile"] = tile
            if kind == "tiled":
                row["estimated_gib"] = round(memory.estimate(STRUCTURE, shape, tile) / 2**30, 2)
            rows.append(row)
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    common.write(options.json, {"rows": rows})


def measured(
    kind: str, size: int, tile: int, rounds: int, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Returns a row, from a process of its own with more in its environment."""
    arguments = ["--row", kind, "--sizes", size, "--tile", tile, "--rounds", rounds]
    command = [sys.executable, __file__, *map(str, arguments)]
    ran = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | environment
    )
    return json.loads(ran.stdout)


def machine_bytes() -> int:
    """Returns the size of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def pictures_of(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the picture to evaluate, the content and the style."""
    generator = np.random.default_rng(0)
    image = generator.random((size, size, 3), np.float32)
    return image, image[::-1], generator.random((STYLE_SIZE, STYLE_SIZE, 3), np.float32)


def problem_of(size: int, tile: int) -> tuple[np.ndarray, Problem]:
    """Returns a picture and its problem; targets by tiles, so that they do not set the peak."""
    params = turned(weights.load().params, STRUCTURE.network)
    image, content, style = pictures_of(size)
    content_targets: dict[str, Any] = tiles.content_targets(STRUCTURE, params, content, tile)
    targets = Targets(content_targets, tiles.style_targets(STRUCTURE, params, style, tile))
    return image, Problem(params, targets, LOSS_WEIGHTS)


def tiled_row(size: int, tile: int, rounds: int) -> dict[str, Any]:
    image, problem = problem_of(size, tile)
    return one(lambda: tiles.value_and_grad(STRUCTURE, image, problem, tile), size, rounds)


def whole_row(size: int, tile: int, rounds: int) -> dict[str, Any]:
    return one(whole(*problem_of(size, tile)), size, rounds)


def torch_row(size: int, tile: int, rounds: int) -> dict[str, Any]:
    from torch_objective import to_torch, torch_objective

    image, content, style = pictures_of(size)
    params = weights.load().params
    loss = torch_objective(STRUCTURE, params, LOSS_WEIGHTS, content, style, channels_last=True)

    def evaluation() -> float:
        picture = to_torch(image).requires_grad_()
        value = loss(picture)
        value.backward()
        return value.item()

    return one(evaluation, size, rounds)


def whole(image: np.ndarray, problem: Problem) -> Callable[[], Any]:
    """Returns the evaluation of the whole picture."""
    evaluation = jax.jit(jax.value_and_grad(objective(STRUCTURE), has_aux=True))
    picture, on_device = jax.tree.map(jnp.asarray, (image, problem))
    return lambda: evaluation(picture, on_device)


def one(evaluation: Callable[[], Any], size: int, rounds: int) -> dict[str, Any]:
    """Returns the peak memory and the best time of an evaluation, the first (compiling) apart."""
    timed(evaluation)
    seconds, _ = best_of(evaluation, rounds)
    return {
        "peak_gib": round(peak_kib() / 2**20, 2),
        "seconds_per_megapixel": round(seconds * 1e6 / size**2, 2),
    }


def peak_kib() -> int:
    """Returns the largest resident set that this process has had, in KiB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def ratio_row(size: int, tile: int, rounds: int) -> dict[str, Any]:
    image, problem = problem_of(size, tile)
    whole_size = min(size, WHOLE_SIZE)
    same = size == whole_size
    by_tiles = functools.partial(tiles.value_and_grad, STRUCTURE, image, problem, tile)
    of_whole = whole(*((image, problem) if same else problem_of(whole_size, tile)))
    # The first after the other pays for memory that the other gave back to the system.
    turns = [[best_of(by_tiles, 4 if same else 1), best_of(of_whole, 4)] for _ in range(rounds + 1)]
    best = np.min(turns[1:], axis=0) / np.array([[size], [whole_size]]) ** 2
    ratio = best[0] / best[1]
    return {"seconds_ratio": round(ratio[0], 3), "core_seconds_ratio": round(ratio[1], 3)}


def best_of(evaluation: Callable[[], Any], times: int) -> np.ndarray:
    """Returns the least seconds of so many evaluations, and the least of all cores."""
    return np.min([timed(evaluation) for _ in range(times)], axis=0)


def timed(evaluation: Callable[[], Any]) -> tuple[float, float]:
    """Returns the seconds of an evaluation, and those of all cores for this process."""
    began = time.perf_counter(), time.process_time()
    jax.block_until_ready(evaluation())
    return time.perf_counter() - began[0], time.process_time() - began[1]


ROWS = {"tiled": tiled_row, "whole": whole_row, "torch": torch_row, "ratio": ratio_row}

if __name__ == "__main__":
    main()

"""How scores depend on the weight of each style layer, three ways, one of them by brute force.

    python experiments/sensitivity.py [--pairs few] [--count 4] [--size 64] [--steps 300]

For each pair and style layer how much each score changes when the layer's weight doubles:

- brute force: the difference of two whole runs, with the weight times and over the root of two;
- going on: the same, but both runs go on from the finished one, for 60 steps, which is what
  `nstyle inspect --sensitivity` does;
- implicit: at a minimum x of the loss, dx/dw = -H^-1 grad(term), H the Hessian (the implicit
  function theorem), solved by conjugate gradients with Hessian-vector products, damped.

Prints for both ways the correlation with brute force over all pairs and layers, and the slope of
the line through zero; 1 and 1 would be the same.
"""

import argparse
import functools
import math
from collections import deque
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.scipy.sparse.linalg import cg

from nstyle import images
from nstyle.config import compose
from nstyle.images.pairs import Pair, standard
from nstyle.objective import Problem, Structure, objective, transfer
from nstyle.objective.sensitivity import FACTOR, sensitivity, with_style_weight
from nstyle.process.progress import watched
from nstyle.runs.job import Job, build
from nstyle.runs.planning import plan
from nstyle.scores import SCORES, score
from nstyle.solvers import Stopping

#: Damping of the Hessian, in parts of its largest eigenvalue, and iterations of the solver.
DAMPING, ITERATIONS = 1e-3, 60

MEASURES = ("lpips_content", "style_gram", "style_frechet", "colour_histogram")


def finished(job: Job, problem: Problem, steps: int) -> jax.Array:
    """Returns the best picture of a run."""
    ran = transfer(job.structure, problem, job.initial, job.solver, Stopping(steps))
    return deque(ran, maxlen=1).pop().best_image()


@functools.lru_cache(maxsize=1)
def implicit(structure: Structure) -> Callable[[jax.Array, Problem, Problem], jax.Array]:
    """Returns (minimum, problem, another one) -> how the minimum moves towards the other's."""
    loss = objective(structure)

    def gradient(image: jax.Array, problem: Problem) -> jax.Array:
        return jax.grad(lambda image: loss(image, problem)[0])(image)

    @jax.jit
    def moved(image: jax.Array, problem: Problem, other: Problem) -> jax.Array:
        def product(vector: jax.Array) -> jax.Array:
            return jax.jvp(lambda image: gradient(image, problem), (image,), (vector,))[1]

        def power(_: int, vector: jax.Array) -> jax.Array:
            return product(vector / jnp.linalg.norm(vector))

        start = jax.random.normal(jax.random.key(0), image.shape)
        damping = DAMPING * jnp.linalg.norm(jax.lax.fori_loop(0, 10, power, start))
        slope = gradient(image, other) - gradient(image, problem)
        return -cg(lambda vector: product(vector) + damping * vector, slope, maxiter=ITERATIONS)[0]

    return moved


def derivatives(pair: Pair, size: int, steps: int) -> list[dict[str, str | float]]:
    """Returns a row for each layer and score."""
    settings = {"content": pair.content, "style": pair.style, "size": size, "style_falloff": 1.0}
    planned = plan(compose(**settings, tolerance=0, **{"pyramid.levels": 1}))
    job = build(planned)
    problem, structure = job.stages[-1].problem, job.structure
    content, style = images.load(pair.content, size), images.load(pair.style, size)

    def scored(image: jax.Array) -> dict[str, float]:
        found = score(np.clip(np.asarray(image), 0, 1), content, style, SCORES)
        return {name: found[name] or 0.0 for name in MEASURES}

    def difference(above: jax.Array, below: jax.Array) -> dict[str, float]:
        first, second = scored(above), scored(below)
        return {name: first[name] - second[name] for name in MEASURES}

    best = finished(job, problem, steps)
    rows: list[dict[str, str | float]] = []
    for layer in structure.style_layers:
        changed = [with_style_weight(problem, layer, factor) for factor in (FACTOR, 1 / FACTOR)]
        brute = difference(*(finished(job, own, steps) for own in changed))
        on = sensitivity(structure, problem, best, job.solver, scored, layer)
        moved = math.log(FACTOR) * implicit(structure)(
            best, problem, with_style_weight(problem, layer, 2.0)
        )
        by_slope = difference(best + moved, best - moved)
        for name in MEASURES:
            names = {"content": Path(pair.content).stem, "style": Path(pair.style).stem}
            found = {"brute": brute[name], "going_on": on[name], "implicit": by_slope[name]}
            rows.append({**names, "layer": layer, "score": name, **found})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="How scores depend on each layer's weight.")
    parser.add_argument("--pairs", default="few")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("sensitivity.csv"))
    options = parser.parse_args()
    pairs = standard(options.pairs)[: options.count]
    rows = []
    for pair in watched(pairs, "pairs"):
        rows += derivatives(pair, options.size, options.steps)
        pd.DataFrame(rows).to_csv(options.out, index=False)
    table = pd.DataFrame(rows)
    for name, own in table.groupby("score"):
        for way in ("going_on", "implicit"):
            correlation = own["brute"].corr(own[way])
            slope = (own[way] @ own["brute"]) / (own["brute"] @ own["brute"])
            print(f"{name}: {way} correlation {correlation:.2f}, slope {slope:.2f}")


if __name__ == "__main__":
    main()

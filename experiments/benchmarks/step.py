"""A step of L-BFGS against a bare evaluation, and the loss it reaches against SciPy's.

    python experiments/benchmarks/step.py [--content FILE] [--style FILE] [--size 256]

From uniform white noise (NumPy seed 0), with the default recipe's objective, on the same compiled
function, side by side in one process:

- time of a step over time of a bare jitted `value_and_grad`, the two taken in turns;
- loss after so many evaluations, over the loss of SciPy's `fmin_l_bfgs_b` (m = 10) after as many.

Prints both ratios, and writes them with the machine as JSON where `--json FILE` is given.
"""

import statistics

import common
import jax
import jax.numpy as jnp

from nstyle.objective import Structure
from nstyle.objective.problems import objective
from nstyle.solvers import Stopping, minimize


def main() -> None:
    parser = common.parser(__doc__, size=256)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20, help="pairs of timings")
    options = parser.parse_args()

    structure = Structure()
    problem, start = common.default_problem(options, structure)
    function = objective(structure)
    value_and_grad = jax.jit(jax.value_and_grad(function, has_aux=True))

    print(f"{start.shape[1]} x {start.shape[0]} px, timing in turns", flush=True)
    image = jnp.asarray(start)
    pairs = common.steps_in_turns(
        function, problem, start, lambda: value_and_grad(image, problem), options.rounds
    )
    step, bare = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(s / b for s, b in pairs)
    print(f"bare evaluation {bare:.3f} s, step {step:.3f} s, step / bare {ratio:.3f}", flush=True)

    for last in minimize(
        function, image, problem, stopping=Stopping(steps=options.evaluations - 1)
    ):
        pass
    print(f"ours after {options.evaluations} evaluations: {last.best_value:.3f}", flush=True)
    curve = common.Curve(evaluations=options.evaluations)
    common.scipy_lbfgs(value_and_grad, start, problem, curve)
    scipy_loss = curve.end().loss
    print(f"SciPy after as many: {scipy_loss:.3f}, ours / SciPy {last.best_value / scipy_loss:.3f}")

    results = {
        "size": list(start.shape[:2]),
        "bare_seconds": bare,
        "step_seconds": step,
        "step_over_bare": ratio,
        "evaluations": options.evaluations,
        "loss": last.best_value,
        "scipy_loss": scipy_loss,
    }
    common.write(options.json, results)


if __name__ == "__main__":
    main()

"""Time to a given loss, from noise: nstyle, SciPy's L-BFGS-B, PyTorch's L-BFGS and Adam.

    python experiments/benchmarks/time_to_loss.py [--size 512] [--evaluations 200] [NAME=VALUE ...]

All minimise one function at one size, the default recipe's, on the same weights and pictures, one
after another in one process. The target is the lowest loss that SciPy's `fmin_l_bfgs_b` (m = 10,
one call on nstyle's compiled `value_and_grad`) sees in so many evaluations from uniform white noise
(NumPy seed 0). Then:

- nstyle as its command runs `init=noise`, whatever sizes the default recipe goes through first; the
  settings NAME=VALUE change it (`pyramid.levels=1` keeps to one size). Its coarser sizes are in the
  time;
- PyTorch's `torch.optim.LBFGS` with a history of 100 and `torch.optim.Adam`, from SciPy's noise, on
  the same objective in PyTorch. Its memory format is the one that is faster here. Line search and
  learning rate are the best that were found for Tübingen and Starry Night at 96 px: a strong Wolfe
  search is at 294 after 200 evaluations, none at 326 (SciPy at 334); Adam with 0.1 at 408 after
  400, with 0.05 at 527, 0.2 at 472, 0.02 at 784, 0.4 at 851, 0.01 above those.

Left out of every time: reading, targets, and compiling or the first calls, printed beside it. A run
of PyTorch that takes `--patience` times nstyle's time ends there. That PyTorch's loss and gradient
at the noise are nstyle's to a relative 1e-3 is checked first.

Prints a table; `--json FILE` writes it with every curve and the machine, `--plot FILE` draws them.
"""

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
from common import Curve, LimitReachedError, Sample

from nstyle.config import compose
from nstyle.objective.problems import objective
from nstyle.runs.job import Job, build, run
from nstyle.runs.planning import plan

#: How far the loss and the gradient of two implementations may be apart.
AGREEMENT = 1e-3


class Row(NamedTuple):
    """A method's result.

    Attributes:
      method: its name.
      seconds: to the target, or to the end.
      evaluations: of all sizes.
      loss: the lowest.
      reached: whether the target was.
      first_call: seconds of compiling, or of three evaluations before the clock begins.
      curve: every evaluation at full size.
    """

    method: str
    seconds: float
    evaluations: int
    loss: float
    reached: bool
    first_call: float
    curve: list[Sample]


def main() -> None:
    parser = common.parser(__doc__, size=512)
    parser.add_argument("--evaluations", type=int, default=200, help="of SciPy's, for the target")
    parser.add_argument("--patience", type=float, default=6.0, help="in times of nstyle's time")
    parser.add_argument(
        "--torch-line-search", choices=["none", "strong_wolfe"], default="strong_wolfe"
    )
    parser.add_argument("--adam-rate", type=float, default=0.1)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("settings", nargs="*", help="NAME=VALUE, of nstyle's run")
    options = parser.parse_args()
    common.needs_torch()

    settings = dict(setting.split("=", 1) for setting in options.settings)
    pictures = {"content": options.content, "style": options.style}
    of_run = common.OBJECTIVE | {"size": options.size, "init": "noise"} | settings
    config = compose(**pictures, **of_run)
    planned = plan(config)
    job = build(planned)
    assert planned.content is not None
    content, style = planned.content.array, planned.styles[0].array
    start = np.random.default_rng(0).random(content.shape, np.float32)

    evaluation = jax.jit(jax.value_and_grad(objective(job.structure), has_aux=True))
    problem = job.stages[-1].problem
    first_call = common.seconds_of(lambda: evaluation(jnp.asarray(start), problem))
    rivals = torch_rivals(job, content, style, start, options)
    check_agreement(evaluation(jnp.asarray(start), problem), rivals.first, start)

    curve = Curve(evaluations=options.evaluations)
    common.scipy_lbfgs(evaluation, start, problem, curve)
    target = curve.end().loss
    print(
        f"{start.shape[1]} x {start.shape[0]} px, to a loss of {target:.4g}:"
        f" SciPy's after {len(curve.samples)} evaluations; PyTorch with {rivals.memory_format}",
        flush=True,
    )
    rows = [row("SciPy L-BFGS-B", curve, target, first_call), ours(job, target)]
    patience = options.patience * rows[1].seconds
    for name, minimise in rivals.methods.items():
        first_call = common.seconds_of(functools.partial(minimise, Curve(evaluations=3)))
        curve = Curve(target=target, seconds=patience)
        minimise(curve)
        rows.append(row(name, curve, target, first_call))
    tell(rows)
    results = {
        "size": list(start.shape[:2]),
        "target": target,
        "evaluations": options.evaluations,
        "patience_seconds": patience,
        "torch_memory_format": rivals.memory_format,
        "settings": settings,
        "rows": [result._asdict() for result in rows],
    }
    common.write(options.json, results)
    if options.plot is not None:
        draw(rows, target, options.plot)


def row(method: str, curve: Curve, target: float, first_call: float) -> Row:
    """Returns the result of a method from its curve."""
    lowest = curve.end()
    reached = lowest.loss <= target
    end = lowest if reached else curve.samples[-1]
    return Row(
        method, end.seconds, end.evaluations, lowest.loss, reached, first_call, curve.samples
    )


def ours(job: Job, target: float) -> Row:
    """Runs a job until its last size is at the target."""
    once = (stage._replace(stopping=stage.stopping._replace(steps=1)) for stage in job.stages)
    began = time.perf_counter()
    for _ in run(job._replace(stages=tuple(once))):
        pass
    compiling = time.perf_counter() - began
    curve: list[Sample] = []
    began = time.perf_counter()
    for evaluations, step in enumerate(run(job), start=1):
        seconds = time.perf_counter() - began
        if step.stage == len(job.stages) - 1:
            curve.append(Sample(seconds, evaluations, step.best_value))
            if curve[-1].loss <= target:
                break
    sizes = " ".join(str(max(stage.shape)) for stage in job.stages)
    return Row(
        f"nstyle ({sizes} px, {len(curve)} of its evaluations at the last)",
        seconds,
        evaluations,
        curve[-1].loss,
        curve[-1].loss <= target,
        compiling,
        curve,
    )


class Rivals(NamedTuple):
    """PyTorch's side.

    Attributes:
      methods: name -> minimises from the noise to the end of a curve.
      first: loss and gradient (height, width, 3) at the noise.
      memory_format: the faster one.
    """

    methods: Mapping[str, Callable[[Curve], None]]
    first: tuple[float, np.ndarray]
    memory_format: str


def torch_rivals(
    job: Job, content: np.ndarray, style: np.ndarray, start: np.ndarray, options: Any
) -> Rivals:
    """Returns PyTorch's methods on the objective of a job's last size."""
    import torch
    from torch_objective import to_torch, torch_objective

    params, _, loss_weights = job.stages[-1].problem[:3]

    def evaluated(function: Any) -> tuple[float, Any]:
        image = to_torch(start).requires_grad_()
        loss = function(image)
        loss.backward()
        return loss.item(), image.grad

    def timed(function: Any) -> list[float]:
        return [common.seconds_of(lambda: evaluated(function)[0]) for _ in range(4)]

    functions = {
        name: torch_objective(
            job.structure, params, loss_weights, content, style, name == "channels_last"
        )
        for name in ("contiguous", "channels_last")
    }
    times = {name: timed(function) for name, function in functions.items()}
    memory_format = min(times, key=lambda name: statistics.median(times[name][1:]))
    function = functions[memory_format]
    loss, gradient = evaluated(function)

    def minimise(make: Callable[[Any], Any], curve: Curve) -> None:
        image = to_torch(start).requires_grad_()
        solver = make(image)

        def closure() -> Any:
            solver.zero_grad()
            loss = function(image)
            loss.backward()
            curve.add(loss.item())
            return loss

        with contextlib.suppress(LimitReachedError):
            while True:
                solver.step(closure)

    line_search = None if options.torch_line_search == "none" else options.torch_line_search

    def lbfgs(image: Any) -> Any:
        return torch.optim.LBFGS(
            [image],
            max_iter=10**6,
            max_eval=10**6,
            tolerance_grad=0,
            tolerance_change=0,
            history_size=100,
            line_search_fn=line_search,
        )

    def adam(image: Any) -> Any:
        return torch.optim.Adam([image], lr=options.adam_rate)

    return Rivals(
        {
            f"PyTorch LBFGS, line search {options.torch_line_search}": lambda curve: minimise(
                lbfgs, curve
            ),
            f"PyTorch Adam, learning rate {options.adam_rate:g}": lambda curve: minimise(
                adam, curve
            ),
        },
        (loss, gradient[0].permute(1, 2, 0).numpy()),
        memory_format,
    )


def check_agreement(found: Any, theirs: tuple[float, np.ndarray], start: np.ndarray) -> None:
    """Ends the process where two implementations of the function are not one."""
    (loss, _), gradient = found
    of_loss = abs(theirs[0] / float(loss) - 1)
    of_gradient = float(np.linalg.norm(theirs[1] - gradient) / np.linalg.norm(gradient))
    if not max(of_loss, of_gradient) <= AGREEMENT:
        common.fail(
            f"PyTorch's function is another one at {start.shape[1]} x {start.shape[0]} px: loss"
            f" {of_loss:.1e} and gradient {of_gradient:.1e} apart, {AGREEMENT:g} allowed"
        )


def tell(rows: list[Row]) -> None:
    """Prints a table; the second row is ours."""
    width = max(len(result.method) for result in rows)
    print(f"{'':{width}}  seconds  over ours  evaluations  lowest loss  first call, s")
    for result in rows:
        sign = " " if result.reached else ">"
        print(
            f"{result.method:{width}} {sign}{result.seconds:7.2f}"
            f" {sign}{result.seconds / rows[1].seconds:9.2f}  {result.evaluations:11d}"
            f"  {result.loss:11.5g}  {result.first_call:13.2f}"
            + ("" if result.reached else f"  not within {result.seconds:.0f} s")
        )


def draw(rows: list[Row], target: float, path: Path) -> None:
    """Draws the lowest loss against time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for result in rows:
        seconds, _, losses = zip(*result.curve, strict=True)
        axes.loglog(seconds, losses, label=result.method)
    axes.axhline(target, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="seconds", ylabel="lowest loss at the full size")
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()

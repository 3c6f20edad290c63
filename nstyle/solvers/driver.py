"""The loop over the steps of one run or of many together, which keeps each to its own course.

Every evaluation is one of each run's own, whether it takes its next step or goes back to its best
picture, so no run waits for another.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax

from nstyle.arrays import Image, PyTree
from nstyle.errors import NstyleError
from nstyle.solvers.base import Objective, Outside, Solver
from nstyle.solvers.compiled import Layout, compiled
from nstyle.solvers.lbfgs import LBFGS
from nstyle.solvers.safeguard import (
    Numbers,
    Stopping,
    begun,
    has_failed,
    judged,
    reason_to_stop,
    restart_scale,
    restarted,
)


class State(NamedTuple):
    """Where a run stands: a pytree of all that its next steps depend on.

    Attributes:
      stage: the number of its stage, from 0.
      first: the number of the stage's first step, counted over all stages.
      numbers: of its last step, counted from the stage's start.
      image: the picture of that step.
      aux: the objective's auxiliary output there.
      best_image: the picture of the stage's lowest finite loss so far.
      memory: the solver's.
    """

    stage: int
    first: int
    numbers: Numbers
    image: Image
    aux: PyTree
    best_image: Image
    memory: PyTree


@dataclass(frozen=True)
class Step:
    """A step of a run.

    Attributes:
      step: its number: 0 for the first picture, then 1, 2, ..., over all stages.
      value: the loss of this step's picture; not finite where the step was rejected for that.
      aux: the objective's auxiliary output for this step's picture.
      gradient_norm: Euclidean norm of the gradient.
      best_value: the lowest finite loss of the stage so far.
      best_step: its step.
      restarts: how often the safeguard went back to the best picture of the stage.
      stop: why this step is the stage's last, one of `STOPS`; empty before.
      is_new: whether the last evaluation made this step. Else that was on the way back to the best
        picture, or the run waits for others.
      best_image: () -> the picture of the lowest finite loss of the stage so far.
      state: () -> what the run goes on from; to be called, and saved, before the next step, which
        uses its arrays up.
      is_last: whether the run ends here.
      stage: the number of the stage, from 0.
    """

    step: int
    value: float
    aux: PyTree = field(repr=False)
    gradient_norm: float
    best_value: float
    best_step: int
    restarts: int
    stop: str
    is_new: bool
    best_image: Callable[[], Image] = field(repr=False)
    state: Callable[[], State] = field(repr=False)
    is_last: bool
    stage: int = 0


def minimize(
    objective: Objective | Outside,
    start: Image | State,
    problem: PyTree,
    solver: Solver = LBFGS(),  # noqa: B008, frozen
    stopping: Stopping = Stopping(),  # noqa: B008, immutable
    value_range: float = 1.0,
    problem_at: Callable[[int], PyTree] | None = None,
) -> Iterator[Step]:
    """Minimises `objective(image, problem)` over the picture, one evaluation a step.

    Going back to the best picture costs one more. A generator, so that the caller shows, saves and
    stops as it likes; the last step it yields has `stop` set. The picture is not confined to its
    range.

    Args:
      objective: a hashable function (value, aux) of the picture and the problem, compiled once per
        objective, solver and shapes; or one that is evaluated outside.
      start: a picture, float32 in [0, `value_range`]; or the state of an earlier step, with the
        same other arguments, to go on as if it had never stopped.
      problem: traced arguments of the objective.
      solver: the solver.
      stopping: limits.
      value_range: the value of white.
      problem_at: (step) -> the problem of a step, in place of `problem`, of the same shapes: for
        an objective that draws anew each time. Only for solvers that are `is_stochastic`.

    Raises:
      NstyleError: the loss or its gradient is not finite at the start.
    """
    together = minimize_together(
        objective, [start], [problem], solver, stopping, value_range, None, problem_at
    )
    return alone(together)


def minimize_together(
    objective: Objective | Outside,
    starts: Sequence[Image | State],
    problems: Sequence[PyTree],
    solver: Solver = LBFGS(),  # noqa: B008, frozen
    stopping: Stopping = Stopping(),  # noqa: B008, immutable
    value_range: float = 1.0,
    devices: Sequence[jax.Device] | None = None,
    problem_at: Callable[[int], PyTree] | None = None,
) -> Iterator[tuple[Step | NstyleError, ...]]:
    """Minimises `objective` over several pictures at once, each as `minimize` does.

    A generator of where each run stands after every evaluation, or what was wrong with its first
    picture, which does not disturb the others; its last item is the one after which all have ended.
    A run decides alone: going back to its best picture costs it one evaluation, during which the
    others take their steps; what it computes after it has ended is dropped. Up to rounding, runs
    follow the same course as by themselves.

    Args:
      objective: see `minimize`; compiled once per objective, solver, shapes and devices, and by
        which arrays the problems share.
      starts: of each run, see `minimize`. One whose state had ended takes no step.
      problems: of each run; see `compiled.stacked` for what they share.
      solver: of all runs.
      stopping: of all runs.
      value_range: the value of white.
      devices: spread the runs over these, shared arrays copied to each; None leaves everything
        where it is.
      problem_at: see `minimize`; for one run alone, as is an objective that is evaluated outside.

    Raises:
      NstyleError: runs cannot be optimised together; or arrays of their problems differ in shape.
    """
    if len(starts) > 1 and (problem_at is not None or isinstance(objective, Outside)):
        raise NstyleError("runs by tiles, or with a draw for each step, are made one by one")
    yield from _Batch(
        objective, starts, problems, solver, stopping, value_range, devices, problem_at
    ).steps()


def alone(steps: Iterator[tuple[Step | NstyleError, ...]]) -> Iterator[Step]:
    """Yields the new steps of the only run.

    Raises:
      NstyleError: its first picture is of no use.
    """
    for (step,) in steps:
        if isinstance(step, NstyleError):
            raise step
        if step.is_new:
            yield step


def blank_state(
    objective: Objective | Outside,
    image: Image,
    problem: PyTree,
    solver: Solver,
    stopping: Stopping,
    value_range: float = 1.0,
) -> State:
    """Returns a state of the right structure, shapes and dtypes, without computing anything.

    A saved state is read into it; the arguments are those of `minimize`.
    """
    traced = objective.like if isinstance(objective, Outside) else objective
    functions = compiled(traced, solver, value_range)
    memory = jax.eval_shape(functions.blank, image)
    found = jax.eval_shape(functions.step, image, memory, problem)
    return State(0, 0, begun(0.0, 0.0, stopping), found.image, found.aux, found.image, memory)


class _Batch:
    """Runs that are optimised together, or one: their arrays, and where each stands."""

    def __init__(
        self,
        objective: Objective | Outside,
        starts: Sequence[Image | State],
        problems: Sequence[PyTree],
        solver: Solver,
        stopping: Stopping,
        value_range: float,
        devices: Sequence[jax.Device] | None,
        problem_at: Callable[[int], PyTree] | None,
    ) -> None:
        self._solver, self._stopping, self._problem_at = solver, stopping, problem_at
        self._layout = layout = Layout.of(len(starts), devices)
        self._problem, many = layout.problem(problems)
        self._compiled = compiled(objective, solver, value_range, many)

        states = {run: start for run, start in enumerate(starts) if isinstance(start, State)}
        self._images = layout.pictures(
            [start.image if isinstance(start, State) else start for start in starts]
        )
        self._best_images = layout.pictures(
            [start.best_image if isinstance(start, State) else start for start in starts]
        )
        self._memory = self._compiled.blank(self._images)
        for run, state in states.items():
            self._memory = self._compiled.place(self._memory, run, state.memory)
        self._numbers = {run: state.numbers for run, state in states.items()}
        self._aux = {run: state.aux for run, state in states.items()}
        #: Runs back at their best picture, about to step from it, and their numbers then.
        self._back: dict[int, Numbers] = {}

    def steps(self) -> Iterator[tuple[Step | NstyleError, ...]]:
        """Yields where each run stands after every evaluation, until all have ended."""
        while running := [run for run in range(self._layout.size) if not self._stop(run)]:
            advanced = self._advance(running)
            yield tuple(self._step(run, run in advanced) for run in range(self._layout.size))

    def _stop(self, run: int) -> str:
        return reason_to_stop(self._numbers[run], self._stopping) if run in self._numbers else ""

    def _advance(self, running: Sequence[int]) -> Sequence[int]:
        """Evaluates once; returns the runs that made a step, not those that went back."""
        layout, functions = self._layout, self._compiled
        ready = [run for run in running if run in self._numbers and run not in self._back]
        failed = [run for run in ready if has_failed(self._numbers[run], self._stopping)]
        back = {run: restarted(self._numbers[run]) for run in failed}
        starting = [run for run in running if run in back or run not in self._numbers]
        forgetting = [run for run in ready if run not in back and self._forgets(run)]
        images, memory = self._images, self._memory
        if back:
            images, memory = functions.rewind(layout.mask(back), images, self._best_images, memory)
        if forgetting:
            memory = functions.arm(layout.mask(forgetting), layout.scales({}), images, memory)
        found = functions.step(images, memory, self._problem_of(starting))
        memory = functions.remember(memory, found.memory)
        if starting:
            scales = {run: restart_scale(numbers) for run, numbers in back.items()}
            memory = functions.arm(
                layout.mask(starting), layout.scales(scales), found.image, memory
            )
        self._images, self._memory = found.image, memory

        advanced = [run for run in running if run not in back]
        self._judge(advanced, *jax.device_get((found.value, found.gradient_norm, found.aux)))
        self._back = back
        return advanced

    def _forgets(self, run: int) -> bool:
        every, step = self._solver.restart_every, self._numbers[run].step
        return bool(every and step and step % every == 0)

    def _problem_of(self, starting: Sequence[int]) -> PyTree:
        """Returns the problem of the next evaluation; a first picture has no draw of its own."""
        if self._problem_at is None or starting:
            return self._problem
        return self._problem_at(int(self._numbers[0].step) + 1)

    def _judge(self, advanced: Sequence[int], values: PyTree, norms: PyTree, aux: PyTree) -> None:
        """Takes down the numbers of runs that made a step, and their pictures if they are best."""
        layout = self._layout
        values, norms, aux = layout.rows(values), layout.rows(norms), layout.rows(aux)
        for run in advanced:
            told = float(values[run]), float(norms[run])
            if run in self._numbers:
                self._numbers[run] = judged(self._back.get(run, self._numbers[run]), *told)
            else:
                self._numbers[run] = begun(*told, self._stopping)
            self._aux[run] = aux[run]
        better = [run for run in advanced if self._numbers[run].is_best]
        if len(better) == layout.size:
            self._best_images = self._images
        elif better:
            self._best_images = self._compiled.select(
                layout.mask(better), self._images, self._best_images
            )

    def _step(self, run: int, is_new: bool) -> Step | NstyleError:
        numbers, aux, taken = self._numbers[run], self._aux[run], self._layout.taken
        if numbers.step == 0 and not numbers.is_usable:
            return NstyleError(
                f"the loss is {numbers.value} and its gradient's norm {numbers.gradient_norm}"
                " at the first picture: a weight is too large for numbers of 32 bits, or a picture"
                " is not finite"
            )
        arrays = self._images, self._best_images, self._memory

        def state() -> State:
            image, best_image, memory = taken(arrays, run)
            return State(0, 0, numbers, image, aux, best_image, memory)

        best_image = functools.partial(taken, self._best_images, run)
        return step_of(numbers, aux, self._stop(run), is_new, best_image, state)


def step_of(
    numbers: Numbers,
    aux: PyTree,
    stop: str,
    is_new: bool,
    best_image: Callable[[], Image],
    state: Callable[[], State],
) -> Step:
    """Returns a step by its numbers; see `Step`."""
    return Step(
        numbers.step,
        numbers.value,
        aux,
        numbers.gradient_norm,
        numbers.best_value,
        numbers.best_step,
        numbers.restarts,
        stop,
        is_new,
        best_image,
        state,
        is_last=bool(stop),
    )

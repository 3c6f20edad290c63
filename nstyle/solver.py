"""Minimisation of a picture's loss: jaxopt's L-BFGS, optax's Adam and gradient descent.

Each step is one jitted call that evaluates the network once, driven from Python: on the CPU XLA
runs a convolution inside a loop several times slower than outside, so neither a line search nor
`solver.run` comes near the network. A unit step has no safeguard of its own; `minimize` adds one:
it keeps the best picture, and goes back to it with a shorter step and no history when a step gives
a value that is not finite or far above the best.
"""

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nstyle.arrays import Image, Scalar
from nstyle.errors import NstyleError

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="(?s).*no longer maintained", module="jaxopt")
    import jaxopt

#: (picture, traced arguments) -> (value, auxiliary output). Hashable; one program per objective.
Objective = Callable[[Image, Any], tuple[Scalar, Any]]


#: (picture, traced arguments) -> ((value, auxiliary output), gradient).
ValueAndGrad = Callable[[Image, Any], tuple[tuple[Scalar, Any], Any]]


@dataclass(frozen=True)
class Outside:
    """An objective too large for one compiled program: Python evaluates it between two.

    Attributes:
      value_and_grad: (picture, arguments) -> ((value, auxiliary output), gradient).
      like: the same as a function that can be traced, for its shapes and dtypes.
    """

    value_and_grad: ValueAndGrad
    like: Objective


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS with unit steps (Nocedal and Wright 2006, algorithm 7.5).

    Attributes:
      history_size: pairs of steps and gradient changes kept.
      first_change: mean absolute change of a pixel in the first step, in parts of white.
      restart_every: forget the history every so many steps, as tools do that call a solver in
        rounds; 0 never.
    """

    history_size: int = 50
    first_change: float = 0.004
    restart_every: int = 0


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2014); `learning_rate` is in the units of the picture's pixels."""

    learning_rate: float = 0.02
    b1: float = 0.9
    b2: float = 0.999


@dataclass(frozen=True)
class SGD:
    """Gradient descent, its learning rate times `decay` in the course of every `decay_steps` steps.

    The learning rate is in the units of the picture's pixels.
    """

    learning_rate: float = 100.0
    decay: float = 0.96
    decay_steps: int = 100


Method = LBFGS | Adam | SGD

#: Least curvature of a pair of L-BFGS along its step, in parts of the slope there.
LEAST_CURVATURE = 0.5

_PICTURE_BYTES = 3 * 4  # a pixel: three channels of float32

#: Start, gradient, direction, the picture before and after a step, the best one, temporaries.
_PICTURES_OF_A_STEP = 8


def memory_bytes(method: Method, shape: tuple[int, ...]) -> int:
    """Returns about how much memory a minimisation takes beside its evaluations, rather too much.

    The pictures of a step, and what the method remembers: L-BFGS two pictures for each pair of its
    history, Adam two moments and the gradient, gradient descent the gradient.

    Args:
      method: the solver.
      shape: of the picture, height first.
    """
    match method:
        case LBFGS():
            remembered = 2 * method.history_size
        case Adam():
            remembered = 3
        case SGD():
            remembered = 1
    return _PICTURE_BYTES * shape[0] * shape[1] * (remembered + _PICTURES_OF_A_STEP)


class State(NamedTuple):
    """A picture, its value, auxiliary output and gradient norm, and what the method remembers."""

    image: Image
    value: Scalar
    aux: Any
    gradient_norm: Scalar
    memory: Any


class Steps(NamedTuple):
    """The two functions of a method; both run the same compiled program.

    Attributes:
      start: (image, args, scale) -> State at `image`; `scale` shortens the first step from there.
      step: (State, args) -> State; evaluates once. The old state's `memory` is used up.
      forget: (State) -> the same State as if the run started from its picture, likewise.
    """

    start: Callable[[Image, Any, float], State]
    step: Callable[[State, Any], State]
    forget: Callable[[State], State]


class Record(NamedTuple):
    """What is known of a minimisation in numbers; they decide how it goes on and when it ends.

    Attributes:
      step: 0 for the first picture, then 1, 2, ...
      value: the loss of this step's picture.
      gradient_norm: Euclidean norm of the gradient there.
      best_value: the lowest finite loss so far.
      best_step: its step.
      recent: the lowest losses of the last steps, for `Stopping.tolerance`; infinite before them.
      restarts: how often the safeguard went back to the best picture.
      failures: how often it did so since the last new best picture.
    """

    step: int
    value: float
    gradient_norm: float
    best_value: float
    best_step: int
    recent: np.ndarray
    restarts: int
    failures: int


class Course(NamedTuple):
    """Where a minimisation stands: a pytree of all that its next steps depend on.

    Attributes:
      state: the picture of this step, and what the method remembers.
      best_image: the picture of the lowest finite loss so far.
      record: the numbers.
    """

    state: State
    best_image: Image
    record: Record


class Iteration(NamedTuple):
    """What `minimize` yields after every evaluation it accepts or rejects.

    Attributes:
      step: 0 for the first picture, then 1, 2, ...
      value: the loss of this step's picture; not finite where the step was rejected for that.
      aux: the objective's auxiliary output for this step's picture.
      gradient_norm: Euclidean norm of the gradient.
      best_image: the picture of the lowest finite loss so far.
      best_value: its loss.
      best_step: its step.
      restarts: how often the safeguard went back to the best picture.
      course: what `minimize` goes on from; the next step uses its arrays up, so save it before.
      stop: why this iteration is the last, one of `STOPS`; empty before.
    """

    step: int
    value: float
    aux: Any
    gradient_norm: float
    best_image: Image
    best_value: float
    best_step: int
    restarts: int
    course: Course
    stop: str = ""

    def __repr__(self) -> str:
        """Returns its numbers in one line."""
        told = ("step", "value", "gradient_norm", "best_value", "best_step", "restarts", "stop")
        return f"Iteration({', '.join(f'{name}={getattr(self, name)!r}' for name in told)})"


#: The name of the compiled step, by which JAX's monitoring reports its compilations.
STEP_PROGRAM = "jit(optimisation_step)"

#: Why a minimisation ended.
STOPS = {
    "steps": "all steps done",
    "converged": "the loss no longer falls",
    "flat": "the gradient is zero",
    "diverged": "the last steps from the best picture gave no usable value",
    "interrupted": "interrupted",
}


class Stopping(NamedTuple):
    """When to stop, and when a step counts as a failure.

    Attributes:
      steps: most steps, each one evaluation of the network.
      tolerance: stop when the best loss fell by less than this fraction over `patience` steps; 0
        never stops early.
      patience: see `tolerance`.
      rise_limit: a step whose loss is more than this times the best loss is taken back; the next
        one is shortened, of Adam and gradient descent all that follow.
      max_restarts: stop after so many restarts without a new best picture between them.
    """

    steps: int = 200
    tolerance: float = 0.0
    patience: int = 20
    rise_limit: float = 10.0
    max_restarts: int = 8


def minimize(
    objective: Objective | Outside,
    image: Image,
    args: Any,
    method: Method = LBFGS(),
    stopping: Stopping = Stopping(),  # noqa: B008, immutable
    value_range: float = 1.0,
    resume: Course | None = None,
    args_at: Callable[[int], Any] | None = None,
) -> Iterator[Iteration]:
    """Minimises `objective(image, args)` over the picture, one evaluation per iteration.

    Going back to the best picture costs one more.

    A generator, so that the caller shows, saves and stops as it likes; the last item it yields has
    `stop` set. The picture is not confined to its range.

    Args:
      objective: a hashable function (value, aux) of the picture and `args`, compiled once per
        objective, method and shapes; or one that is evaluated outside.
      image: where to start, float32 in [0, `value_range`].
      args: traced arguments of the objective.
      method: `LBFGS`, `Adam` or `SGD`.
      stopping: limits.
      value_range: the value of white.
      resume: the course of an earlier iteration, with the same arguments; goes on with the step
        after it, as if it had never stopped, and yields nothing where that was the last.
      args_at: (step) -> the arguments of a step, in place of `args`, of the same shapes: for an
        objective that draws anew each time. Not for L-BFGS, whose pairs are of one function.

    Raises:
      NstyleError: the loss or its gradient is not finite at the start.
    """
    compiled = compile_steps(objective, method, value_range)

    def begin() -> Course:
        state = compiled.start(image, args, 1.0)
        return Course(state, state.image, begun(*_numbers(state), stopping))

    def advance(course: Course) -> Course:
        state, best_image, record = course
        if failed(record, stopping):
            record = restarted(record)
            state = compiled.start(best_image, args, restart_scale(record))
        elif round_ends(record, method):
            state = compiled.forget(state)
        state = compiled.step(state, args if args_at is None else args_at(int(record.step) + 1))
        record = judged(record, *_numbers(state))
        return Course(state, state.image if improved(record) else best_image, record)

    if resume is None:
        course = begin()
        check_start(course.record.value, course.record.gradient_norm)
    elif reason_to_stop(resume.record, stopping):
        return
    else:
        course = advance(resume)
    while True:
        stop = reason_to_stop(course.record, stopping)
        yield iteration(course, stop)
        if stop:
            return
        course = advance(course)


def blank_course(
    objective: Objective | Outside,
    image: Image,
    args: Any,
    method: Method,
    stopping: Stopping,
    value_range: float = 1.0,
) -> Course:
    """Returns a course of the right structure, shapes and dtypes, without computing anything.

    A saved course is read into it; the arguments are those of `minimize`.
    """
    traced = objective.like if isinstance(objective, Outside) else objective
    start = compile_steps(traced, method, value_range).start
    state = jax.eval_shape(lambda image, args: start(image, args, 1.0), image, args)
    return Course(state, state.image, begun(0.0, 0.0, stopping))


def iteration(course: Course, stop: str) -> Iteration:
    """Returns what there is to say of a course."""
    record = course.record
    return Iteration(
        record.step,
        record.value,
        course.state.aux,
        record.gradient_norm,
        course.best_image,
        record.best_value,
        record.best_step,
        record.restarts,
        course,
        stop,
    )


def _numbers(state: State) -> tuple[float, float]:
    value, gradient_norm = jax.device_get((state.value, state.gradient_norm))
    return float(value), float(gradient_norm)


def begun(value: float, gradient_norm: float, stopping: Stopping) -> Record:
    """Returns the record of the first picture."""
    recent = np.append(np.full(stopping.patience, math.inf), value)
    return Record(0, value, gradient_norm, value, 0, recent, 0, 0)


def check_start(value: float, gradient_norm: float) -> None:
    """Raises NstyleError where the loss of the first picture, or its gradient, is not finite."""
    if not _finite(value, gradient_norm):
        raise NstyleError(
            f"the loss is {value} and its gradient's norm {gradient_norm}"
            " at the first picture: a weight is too large, or a picture is not finite"
        )


def judged(record: Record, value: float, gradient_norm: float) -> Record:
    """Returns the record after one more step, which led to these numbers."""
    record = record._replace(step=record.step + 1, value=value, gradient_norm=gradient_norm)
    if _usable(record) and value < record.best_value:
        record = record._replace(best_value=value, best_step=record.step, failures=0)
    return record._replace(recent=np.append(record.recent[1:], record.best_value))


def improved(record: Record) -> bool:
    """Says whether this step's picture is the best so far."""
    return record.best_step == record.step


def failed(record: Record, stopping: Stopping) -> bool:
    """Says whether the step is to be taken back."""
    limit = stopping.rise_limit * abs(record.best_value)
    return not _usable(record) or (record.step > 0 and record.value > limit)


def restarted(record: Record) -> Record:
    """Returns the record after going back to the best picture."""
    return record._replace(restarts=record.restarts + 1, failures=record.failures + 1)


def restart_scale(record: Record) -> float:
    """Returns what shortens the first step after a restart."""
    return 0.25**record.failures


def round_ends(record: Record, method: Method) -> bool:
    """Says whether the method forgets its history before the next step."""
    every = method.restart_every if isinstance(method, LBFGS) else 0
    return bool(every and record.step and record.step % every == 0)


def reason_to_stop(record: Record, stopping: Stopping) -> str:
    """Returns why this step is the last, one of `STOPS`, or nothing."""
    ends = record.step in (0, stopping.steps) or record.failures == stopping.max_restarts
    if failed(record, stopping) and ends:
        return "diverged"
    if _usable(record) and record.gradient_norm == 0.0:
        return "flat"
    if record.step == stopping.steps:
        return "steps"
    before, now = record.recent[0], record.recent[-1]
    if stopping.tolerance > 0 and before - now < stopping.tolerance * abs(before) < math.inf:
        return "converged"
    return ""


def _usable(record: Record) -> bool:
    return _finite(record.value, record.gradient_norm)


def _finite(*numbers: float) -> bool:
    return all(map(math.isfinite, numbers))


class Rules(NamedTuple):
    """A method, as three pure functions of the picture and the method's memory.

    Attributes:
      blank: (image) -> a memory from which `step` leaves the picture where it is.
      step: (image, memory, args) -> State after one move and one evaluation, its memory what is
        new of it.
      remember: (memory, what is new) -> the memory after the step.
      armed: (image, memory, scale) -> the memory for a first step from there, times `scale`.
    """

    blank: Callable[[Image], Any]
    step: Callable[[Image, Any, Any], State]
    remember: Callable[[Any, Any], Any]
    armed: Callable[[Image, Any, float], Any]


def rules_of(value_and_grad: ValueAndGrad, method: Method, value_range: float = 1.0) -> Rules:
    """Returns a method's rules for minimising the function that `value_and_grad` evaluates."""
    match method:
        case LBFGS():
            return _lbfgs(value_and_grad, method, value_range)
        case Adam():
            adam = optax.adam(method.learning_rate, b1=method.b1, b2=method.b2)
            return _optax(value_and_grad, adam)
        case SGD():
            schedule = optax.exponential_decay(
                method.learning_rate, method.decay_steps, method.decay
            )
            return _optax(value_and_grad, optax.sgd(schedule))


@functools.lru_cache(maxsize=32)
def compile_steps(
    objective: Objective | Outside, method: Method, value_range: float = 1.0
) -> Steps:
    """Returns the compiled functions of a method, the same ones for the same arguments."""
    if isinstance(objective, Outside):
        rules = rules_of(_as_found, method, value_range)
    else:
        rules = rules_of(jax.value_and_grad(objective, has_aux=True), method, value_range)

    def optimisation_step(image: Image, memory: Any, args: Any) -> State:
        return rules.step(image, memory, args)

    compiled: Callable[..., State] = jax.jit(optimisation_step)
    if isinstance(objective, Outside):
        compiled = _around(objective, rules, compiled)
    # Apart from the step, so that the history is updated in place: a program that reads it in a
    # loop and then writes to it works on copies, 5 % of a step and as much memory again.
    remember = jax.jit(rules.remember, donate_argnums=0)
    # One program each: their twenty small operations would each be one, for every shape.
    blank, armed = jax.jit(rules.blank), jax.jit(rules.armed, donate_argnums=1)

    def taken(image: Image, memory: Any, args: Any) -> State:
        state = compiled(image, memory, args)
        return state._replace(memory=remember(memory, state.memory))

    def start(image: Image, args: Any, scale: float) -> State:
        state = taken(image, blank(image), args)
        return state._replace(memory=armed(image, state.memory, scale))

    def step(state: State, args: Any) -> State:
        return taken(state.image, state.memory, args)

    def forget(state: State) -> State:
        return state._replace(memory=armed(state.image, state.memory, 1.0))

    return Steps(start, step, forget)


def _as_found(image: Image, found: Any) -> Any:
    """Stands for an evaluation that was made outside: its results are the arguments."""
    return found


def _around(
    objective: Outside, rules: Rules, judge: Callable[..., State]
) -> Callable[[Image, Any, Any], State]:
    """Returns a step that moves in one compiled call, evaluates outside, and judges in another."""

    @jax.jit
    def move(image: Image, memory: Any, args: Any) -> Image:
        # Where a step leads does not depend on what is found there; only its shapes are needed.
        shapes = jax.eval_shape(jax.value_and_grad(objective.like, has_aux=True), image, args)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return rules.step(image, memory, nothing).image

    def step(image: Image, memory: Any, args: Any) -> State:
        moved = move(image, memory, args)
        found = objective.value_and_grad(moved, args)
        return judge(image, memory, found)._replace(image=moved)

    return step


def _lbfgs(value_and_grad: Callable[..., Any], method: LBFGS, value_range: float) -> Rules:
    solver = jaxopt.LBFGS(
        value_and_grad,
        value_and_grad=True,
        has_aux=True,
        stepsize=lambda _: 1.0,
        history_size=method.history_size,
        tol=0.0,
        implicit_diff=False,
    )
    # `init_state` would evaluate the network; the state of an objective that is 0 costs nothing.
    blank_solver = jaxopt.LBFGS(
        lambda image: jnp.sum(0.0 * image), history_size=method.history_size, implicit_diff=False
    )

    def step(image: Image, memory: Any, args: Any) -> State:
        after_image, after = solver.update(image, memory, args)
        change, gradient_change = after_image - image, after.grad - memory.grad
        # Where the slope along a step hardly changes, its pair puts the minimum far ahead, and the
        # next step leaps there; without positive curvature, behind. Such a pair is given as much
        # curvature as has the minimum at most 1 / LEAST_CURVATURE steps ahead.
        least = LEAST_CURVATURE * jnp.abs(jnp.vdot(change, after.grad))
        lacking = jnp.maximum(least - jnp.vdot(change, gradient_change), 0.0)
        moved = jnp.vdot(change, change)
        usable = moved > 0
        gradient_change += jnp.where(usable, lacking / moved, 0.0) * change
        curvature = jnp.vdot(change, gradient_change)
        usable &= curvature > 0
        pair = after._replace(
            value=memory.value,
            aux=None,
            s_history=change,
            y_history=gradient_change,
            rho_history=jnp.where(usable, 1.0 / curvature, 0.0),
            gamma=jnp.where(
                usable, curvature / jnp.vdot(gradient_change, gradient_change), memory.gamma
            ),
        )
        return State(after_image, after.value, after.aux, after.error, pair)

    def remember(memory: Any, pair: Any) -> Any:
        newest = memory.iter_num % method.history_size
        histories = {
            name: getattr(memory, name).at[newest].set(getattr(pair, name))
            for name in ("s_history", "y_history", "rho_history")
        }
        return pair._replace(**histories)

    def armed(image: Image, memory: Any, scale: float) -> Any:
        # With no history the direction is -gamma times the gradient: gamma sets the first step.
        mean_gradient = jnp.mean(jnp.abs(memory.grad))
        change = scale * method.first_change * value_range
        gamma = jnp.where(mean_gradient > 0, change / mean_gradient, 1.0)
        return memory._replace(
            gamma=gamma,
            iter_num=jnp.zeros_like(memory.iter_num),
            rho_history=jnp.zeros_like(memory.rho_history),
        )

    return Rules(blank_solver.init_state, step, remember, armed)


class _OptaxMemory(NamedTuple):
    gradient: Image
    transformation: Any
    scale: Scalar


def _optax(
    value_and_grad: Callable[..., Any], transformation: optax.GradientTransformation
) -> Rules:
    def blank(image: Image) -> _OptaxMemory:
        return _OptaxMemory(jnp.zeros_like(image), transformation.init(image), jnp.zeros(()))

    def step(image: Image, memory: _OptaxMemory, args: Any) -> State:
        updates, inner = transformation.update(memory.gradient, memory.transformation, image)
        image = optax.apply_updates(image, memory.scale * updates)
        (value, aux), gradient = value_and_grad(image, args)
        remembered = _OptaxMemory(gradient, inner, memory.scale)
        return State(image, value, aux, jnp.linalg.norm(gradient), remembered)

    def armed(image: Image, memory: _OptaxMemory, scale: float) -> _OptaxMemory:
        return _OptaxMemory(memory.gradient, transformation.init(image), jnp.float32(scale))

    return Rules(blank, step, lambda _, after: after, armed)

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

from nstyle.errors import NstyleError
from nstyle.losses import Image, Scalar

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="(?s).*no longer maintained", module="jaxopt")
    import jaxopt

#: (picture, traced arguments) -> (value, auxiliary output). Hashable; one program per objective.
Objective = Callable[[Image, Any], tuple[Scalar, Any]]


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
      forget: (State) -> the same State as if the run started from its picture.
    """

    start: Callable[[Image, Any, float], State]
    step: Callable[[State, Any], State]
    forget: Callable[[State], State]


class Course(NamedTuple):
    """Where a minimisation stands: a pytree of all that its next steps depend on.

    Attributes:
      state: the picture of this step, its loss, and what the method remembers.
      step: 0 for the first picture, then 1, 2, ...
      best_image: the picture of the lowest finite loss so far.
      best_value: its loss.
      best_step: its step.
      recent: the lowest losses of the last steps, for `Stopping.tolerance`; infinite before them.
      restarts: how often the safeguard went back to the best picture.
      failures: how often it did so since the last new best picture.
    """

    state: State
    step: int
    best_image: Image
    best_value: float
    best_step: int
    recent: np.ndarray
    restarts: int
    failures: int


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


#: The name of the compiled step, by which JAX's monitoring reports its compilations.
STEP_PROGRAM = "jit(optimisation_step)"

#: Why a minimisation ended.
STOPS = {
    "steps": "all steps done",
    "converged": "the loss no longer falls",
    "flat": "the gradient is zero",
    "diverged": "no step from the best picture gives a usable value",
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
    objective: Objective,
    image: Image,
    args: Any,
    method: Method = LBFGS(),
    stopping: Stopping = Stopping(),  # noqa: B008, immutable
    value_range: float = 1.0,
    resume: Course | None = None,
) -> Iterator[Iteration]:
    """Minimises `objective(image, args)` over the picture, one evaluation per iteration.

    Going back to the best picture costs one more.

    A generator, so that the caller shows, saves and stops as it likes; the last item it yields has
    `stop` set. The picture is not confined to its range.

    Args:
      objective: a hashable function (value, aux) of the picture and `args`; compiled once per
        objective, method and shapes.
      image: where to start, float32 in [0, `value_range`].
      args: traced arguments of the objective.
      method: `LBFGS`, `Adam` or `SGD`.
      stopping: limits.
      value_range: the value of white.
      resume: the course of an earlier iteration, with the same arguments; goes on with the step
        after it, as if it had never stopped.

    Raises:
      NstyleError: the loss or its gradient is not finite at the start.
    """
    compiled = compile_steps(objective, method, value_range)
    restart_every = method.restart_every if isinstance(method, LBFGS) else 0

    def advance(course: Course) -> Course:
        state, restarts, failures = course.state, course.restarts, course.failures
        if _failed(course, stopping):
            restarts, failures = restarts + 1, failures + 1
            state = compiled.start(course.best_image, args, 0.25**failures)
        elif restart_every and course.step and course.step % restart_every == 0:
            state = compiled.forget(state)
        state = compiled.step(state, args)
        return _judged(course._replace(state=state, restarts=restarts, failures=failures))

    course = advance(resume) if resume is not None else _begun(compiled, image, args, stopping)
    while True:
        state, stop = course.state, _reason_to_stop(course, stopping)
        yield Iteration(
            course.step,
            float(state.value),
            state.aux,
            float(state.gradient_norm),
            course.best_image,
            course.best_value,
            course.best_step,
            course.restarts,
            course,
            stop,
        )
        if stop:
            return
        course = advance(course)


def blank_course(
    objective: Objective,
    image: Image,
    args: Any,
    method: Method,
    stopping: Stopping,
    value_range: float = 1.0,
) -> Course:
    """Returns a course of the right structure, shapes and dtypes, without computing anything.

    A saved course is read into it; the arguments are those of `minimize`.
    """
    start = compile_steps(objective, method, value_range).start
    state = jax.eval_shape(lambda image, args: start(image, args, 1.0), image, args)
    return Course(state, 0, state.image, 0.0, 0, np.zeros(stopping.patience + 1), 0, 0)


def _begun(compiled: Steps, image: Image, args: Any, stopping: Stopping) -> Course:
    state = compiled.start(image, args, 1.0)
    if not _usable(state):
        raise NstyleError(
            f"the loss is {float(state.value)} and its gradient's norm {float(state.gradient_norm)}"
            " at the first picture: a weight is too large, or a picture is not finite"
        )
    value = float(state.value)
    recent = np.append(np.full(stopping.patience, math.inf), value)
    return Course(state, 0, state.image, value, 0, recent, 0, 0)


def _judged(course: Course) -> Course:
    """Returns the course with the step that its state has just made taken into account."""
    state, step, value = course.state, course.step + 1, float(course.state.value)
    if _usable(state) and value < course.best_value:
        course = course._replace(
            best_image=state.image, best_value=value, best_step=step, failures=0
        )
    return course._replace(step=step, recent=np.append(course.recent[1:], course.best_value))


def _usable(state: State) -> bool:
    return math.isfinite(float(state.value)) and math.isfinite(float(state.gradient_norm))


def _failed(course: Course, stopping: Stopping) -> bool:
    limit = stopping.rise_limit * abs(course.best_value)
    return not _usable(course.state) or (course.step > 0 and float(course.state.value) > limit)


def _reason_to_stop(course: Course, stopping: Stopping) -> str:
    if _failed(course, stopping) and course.failures == stopping.max_restarts:
        return "diverged"
    if _usable(course.state) and float(course.state.gradient_norm) == 0.0:
        return "flat"
    if course.step == stopping.steps:
        return "steps"
    before, now = course.recent[0], course.recent[-1]
    if stopping.tolerance > 0 and before - now < stopping.tolerance * abs(before) < math.inf:
        return "converged"
    return ""


class _Rules(NamedTuple):
    """A method, as three pure functions of the picture and the method's memory.

    Attributes:
      blank: (image) -> a memory from which `step` leaves the picture where it is.
      step: (image, memory, args) -> State after one move and one evaluation.
      armed: (image, memory, scale) -> the memory for a first step from there, times `scale`.
    """

    blank: Callable[[Image], Any]
    step: Callable[[Image, Any, Any], State]
    armed: Callable[[Image, Any, float], Any]


@functools.lru_cache(maxsize=32)
def compile_steps(objective: Objective, method: Method, value_range: float = 1.0) -> Steps:
    """Returns the compiled functions of a method, the same ones for the same arguments."""
    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    match method:
        case LBFGS():
            rules = _lbfgs(value_and_grad, method, value_range)
        case Adam():
            adam = optax.adam(method.learning_rate, b1=method.b1, b2=method.b2)
            rules = _optax(value_and_grad, adam)
        case SGD():
            schedule = optax.exponential_decay(
                method.learning_rate, method.decay_steps, method.decay
            )
            rules = _optax(value_and_grad, optax.sgd(schedule))

    def optimisation_step(image: Image, memory: Any, args: Any) -> State:
        return rules.step(image, memory, args)

    # The memory is updated in place: copying a history of 50 pictures would cost more than 5 %.
    compiled = jax.jit(optimisation_step, donate_argnums=1)

    def start(image: Image, args: Any, scale: float) -> State:
        state = compiled(image, rules.blank(image), args)
        return state._replace(memory=rules.armed(image, state.memory, scale))

    def step(state: State, args: Any) -> State:
        return compiled(state.image, state.memory, args)

    def forget(state: State) -> State:
        return state._replace(memory=rules.armed(state.image, state.memory, 1.0))

    return Steps(start, step, forget)


def _lbfgs(value_and_grad: Callable[..., Any], method: LBFGS, value_range: float) -> _Rules:
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
        image, after = solver.update(image, memory, args)
        # A pair without positive curvature would turn descent into ascent: it is left out.
        newest = memory.iter_num % method.history_size
        rho = after.rho_history[newest]
        remembered = after._replace(
            value=memory.value,
            aux=None,
            rho_history=after.rho_history.at[newest].set(jnp.maximum(rho, 0.0)),
            gamma=jnp.where(rho > 0, after.gamma, memory.gamma),
        )
        return State(image, after.value, after.aux, after.error, remembered)

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

    return _Rules(blank_solver.init_state, step, armed)


class _OptaxMemory(NamedTuple):
    gradient: Image
    transformation: Any
    scale: Scalar


def _optax(
    value_and_grad: Callable[..., Any], transformation: optax.GradientTransformation
) -> _Rules:
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

    return _Rules(blank, step, armed)

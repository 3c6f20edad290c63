"""When a step is taken back, and when a run ends: decided by numbers alone, for each run by itself.

A unit step has no safeguard of its own. A step that gives a value that is not finite, or far above
the best, is taken back: the run goes on from its best picture with a shorter step, and has
forgotten all before.
"""

import math
from typing import NamedTuple

import numpy as np

#: Why a run ended.
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
        one is shortened, of first-order solvers all that follow.
      max_restarts: stop after so many restarts without a new best picture between them.
    """

    steps: int = 200
    tolerance: float = 0.0
    patience: int = 20
    rise_limit: float = 10.0
    max_restarts: int = 8


class Numbers(NamedTuple):
    """What is known of a run in numbers; they decide how it goes on and when it ends.

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

    @property
    def is_usable(self) -> bool:
        """Whether this step's loss and gradient are finite."""
        return math.isfinite(self.value) and math.isfinite(self.gradient_norm)

    @property
    def is_best(self) -> bool:
        """Whether this step's picture is the best so far."""
        return self.best_step == self.step


def begun(value: float, gradient_norm: float, stopping: Stopping) -> Numbers:
    """Returns the numbers of the first picture."""
    recent = np.append(np.full(stopping.patience, math.inf), value)
    return Numbers(0, value, gradient_norm, value, 0, recent, 0, 0)


def judged(numbers: Numbers, value: float, gradient_norm: float) -> Numbers:
    """Returns the numbers after one more step, which led to these."""
    numbers = numbers._replace(step=numbers.step + 1, value=value, gradient_norm=gradient_norm)
    if numbers.is_usable and value < numbers.best_value:
        numbers = numbers._replace(best_value=value, best_step=numbers.step, failures=0)
    return numbers._replace(recent=np.append(numbers.recent[1:], numbers.best_value))


def has_failed(numbers: Numbers, stopping: Stopping) -> bool:
    """Says whether the step is to be taken back."""
    limit = stopping.rise_limit * abs(numbers.best_value)
    return not numbers.is_usable or (numbers.step > 0 and numbers.value > limit)


def restarted(numbers: Numbers) -> Numbers:
    """Returns the numbers after going back to the best picture."""
    return numbers._replace(restarts=numbers.restarts + 1, failures=numbers.failures + 1)


def restart_scale(numbers: Numbers) -> float:
    """Returns what shortens the first step after a restart."""
    return 0.25**numbers.failures


def reason_to_stop(numbers: Numbers, stopping: Stopping) -> str:
    """Returns why this step is the last, one of `STOPS`, or nothing."""
    ends = numbers.step in (0, stopping.steps) or numbers.failures == stopping.max_restarts
    if has_failed(numbers, stopping) and ends:
        return "diverged"
    if numbers.is_usable and numbers.gradient_norm == 0.0:
        return "flat"
    if numbers.step == stopping.steps:
        return "steps"
    before, now = numbers.recent[0], numbers.recent[-1]
    if stopping.tolerance > 0 and before - now < stopping.tolerance * abs(before) < math.inf:
        return "converged"
    return ""

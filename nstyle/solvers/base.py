"""What a solver is: a record that answers all that the rest of the program asks of it.

A solver says where a picture goes next from what it remembers, and evaluates there, once. It is
asked for that as pure functions, `Rules`, so that one run or many, whole pictures or tiles, go by
the same ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from nstyle.arrays import Image, PyTree, Scalar
from nstyle.errors import NstyleError
from nstyle.records import Record

#: (picture, problem) -> (value, auxiliary output). Hashable; one program per objective.
Objective = Callable[[Image, PyTree], tuple[Scalar, PyTree]]

#: (picture, problem) -> ((value, auxiliary output), gradient).
ValueAndGrad = Callable[[Image, PyTree], tuple[tuple[Scalar, PyTree], PyTree]]

_PICTURE_BYTES = 3 * 4  # a pixel: three channels of float32

#: Start, gradient, direction, the picture before and after a step, the best one, temporaries.
_PICTURES_OF_A_STEP = 8


@dataclass(frozen=True)
class Outside:
    """An objective too large for one compiled program: Python evaluates it between two.

    Attributes:
      value_and_grad: (picture, problem) -> ((value, auxiliary output), gradient).
      like: the same as a function that can be traced, for its shapes and dtypes.
    """

    value_and_grad: ValueAndGrad
    like: Objective


class Evaluation(NamedTuple):
    """A picture and what was found there.

    Attributes:
      image: the picture.
      value: its loss.
      aux: the objective's auxiliary output.
      gradient_norm: Euclidean norm of the gradient.
      memory: what is new of the solver's memory; after `Rules.remember` all of it.
    """

    image: Image
    value: Scalar
    aux: PyTree
    gradient_norm: Scalar
    memory: PyTree


class Rules(NamedTuple):
    """A solver, as pure functions of the picture and the solver's memory.

    Attributes:
      blank: (image) -> a memory from which `step` leaves the picture where it is.
      step: (image, memory, problem) -> Evaluation after one move.
      remember: (memory, what is new) -> the memory after the step.
      armed: (image, memory, scale) -> the memory for a first step from there, times `scale`.
    """

    blank: Callable[[Image], PyTree]
    step: Callable[[Image, PyTree, PyTree], Evaluation]
    remember: Callable[[PyTree, PyTree], PyTree]
    armed: Callable[[Image, PyTree, PyTree], PyTree]


@dataclass(frozen=True)
class Solver(Record):
    """A way to minimise a picture's loss by one evaluation a step.

    Attributes:
      is_stochastic: whether each step may have a loss of its own, by other random numbers.
      hint: what may help where it got no further, for a note; empty where nothing is known.
    """

    group: ClassVar[str] = "solver"
    is_stochastic: ClassVar[bool] = False
    hint: ClassVar[str] = ""

    def rules(self, value_and_grad: ValueAndGrad, value_range: float) -> Rules:
        """Returns the rules for minimising the function that `value_and_grad` evaluates.

        Args:
          value_and_grad: evaluates a picture; traced once in each function that calls it.
          value_range: the value of white.
        """
        raise NotImplementedError

    def remembered(self, shape: tuple[int, ...]) -> int:
        """Returns how many pictures it remembers between steps, of this shape, height first."""
        raise NotImplementedError

    @property
    def restart_every(self) -> int:
        """After how many steps it forgets what it remembers, time and again; 0 never."""
        return 0

    @property
    def kept(self) -> str:
        """What it remembers that takes memory, in words, for a note."""
        return f"{self.name}'s memory"

    def ever_smaller(self) -> Iterator[Self]:
        """Yields itself, then the same with ever less memory; the last one has the least."""
        yield self

    def try_out(self) -> None:
        """Refuses a solver that breaks this contract on an example, with `NstyleError`."""

        def loss(image: Image, problem: None) -> tuple[Scalar, None]:
            return jnp.sum(jnp.square(image - 0.5)), None

        rules, image = self.rules(jax.value_and_grad(loss, has_aux=True), 1.0), jnp.zeros((4, 5, 3))
        memory = rules.blank(image)
        first = rules.step(image, memory, None)
        if not np.array_equal(first.image, image):
            raise NstyleError("its step from a blank memory moves the picture")
        memory = rules.armed(image, rules.remember(memory, first.memory), 1.0)
        second = rules.step(image, memory, None)
        if second.image.shape != image.shape or np.array_equal(second.image, image):
            raise NstyleError("its step leaves the picture where it is")
        self._check_finite(second.value, second.image)

    def memory_bytes(self, shape: tuple[int, ...]) -> int:
        """Returns about how much memory a run takes beside its evaluations, rather too much.

        The pictures of a step, and those that are remembered.

        Args:
          shape: of the picture, height first.
        """
        pictures = self.remembered(shape) + _PICTURES_OF_A_STEP
        return _PICTURE_BYTES * shape[0] * shape[1] * pictures

"""First-order solvers, by optax: Adam, gradient descent, and any other in one small class."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from nstyle.arrays import Image, PyTree, Scalar
from nstyle.records import number
from nstyle.solvers.base import Evaluation, Rules, Solver, ValueAndGrad


class _Memory(NamedTuple):
    """The last gradient, what the transformation remembers, and what shortens its steps."""

    gradient: Image
    transformation: PyTree
    scale: Scalar


@dataclass(frozen=True)
class FirstOrder(Solver):
    """A solver that is a gradient transformation of optax.

    Whatever optax has is a small class, its options fields with their ranges::

        @dataclass(frozen=True)
        class Lion(FirstOrder):
            learning_rate: float = number(0.01, 1e-12)

            def transformation(self):
                return optax.lion(self.learning_rate)
    """

    is_stochastic: ClassVar[bool] = True
    hint: ClassVar[str] = "try a smaller solver.learning_rate"

    def transformation(self) -> optax.GradientTransformation:
        """Returns the transformation, learning rate included, as optax has it."""
        raise NotImplementedError

    def remembered(self, shape: tuple[int, ...]) -> int:
        """Returns one picture for the gradient, and what the transformation's arrays take."""
        picture = jax.ShapeDtypeStruct((*shape[:2], 3), jnp.float32)
        arrays = jax.tree.leaves(jax.eval_shape(self.transformation().init, picture))
        return 1 + math.ceil(sum(leaf.size for leaf in arrays if leaf.ndim) / picture.size)

    def rules(self, value_and_grad: ValueAndGrad, value_range: float) -> Rules:
        """Returns the transformation's steps; those after a restart are all shortened."""
        transformation = self.transformation()

        def blank(image: Image) -> _Memory:
            return _Memory(jnp.zeros_like(image), transformation.init(image), jnp.zeros(()))

        def step(image: Image, memory: _Memory, problem: PyTree) -> Evaluation:
            updates, inner = transformation.update(memory.gradient, memory.transformation, image)
            image = optax.apply_updates(image, memory.scale * updates)
            (value, aux), gradient = value_and_grad(image, problem)
            remembered = _Memory(gradient, inner, memory.scale)
            return Evaluation(image, value, aux, jnp.linalg.norm(gradient), remembered)

        def armed(image: Image, memory: _Memory, scale: PyTree) -> _Memory:
            return _Memory(memory.gradient, transformation.init(image), jnp.float32(scale))

        return Rules(blank, step, lambda _, after: after, armed)


@dataclass(frozen=True)
class Adam(FirstOrder):
    """Adam (Kingma and Ba 2014).

    Attributes:
      learning_rate: in the units of the picture's pixels.
      b1: share of the mean gradient that is kept from step to step.
      b2: the same of the mean square.
    """

    name = "adam"
    learning_rate: float = number(0.02, 1e-12)
    b1: float = number(0.9, 0.0, 0.999999)
    b2: float = number(0.999, 0.0, 0.999999)

    def transformation(self) -> optax.GradientTransformation:
        """Returns optax's Adam."""
        return optax.adam(self.learning_rate, b1=self.b1, b2=self.b2)


@dataclass(frozen=True)
class SGD(FirstOrder):
    """Gradient descent with a learning rate that falls exponentially.

    Attributes:
      learning_rate: of the first step, in the units of the picture's pixels.
      decay: factor of the learning rate in the course of `decay_steps` steps.
      decay_steps: see `decay`.
    """

    name = "sgd"
    learning_rate: float = number(100.0, 1e-12)
    decay: float = number(0.96, 1e-12)
    decay_steps: int = number(100, 1)

    def transformation(self) -> optax.GradientTransformation:
        """Returns optax's gradient descent with its schedule."""
        rate = optax.exponential_decay(self.learning_rate, self.decay_steps, self.decay)
        return optax.sgd(rate)

"""L-BFGS with unit steps, by jaxopt."""

import dataclasses
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import jax.numpy as jnp

from nstyle.arrays import Image, PyTree, Scalar
from nstyle.records import number
from nstyle.solvers.base import Evaluation, Rules, Solver, ValueAndGrad
from nstyle.solvers.sobolev import smoothed

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="(?s).*no longer maintained", module="jaxopt")
    import jaxopt

#: Least curvature of a pair along its step, in parts of the slope there.
LEAST_CURVATURE = 0.5

#: Pairs below which a history is not shortened for want of memory.
_LEAST_HISTORY = 5


@dataclass(frozen=True)
class LBFGS(Solver):
    """Limited-memory BFGS with unit steps (Nocedal and Wright 2006, algorithm 7.5).

    Attributes:
      history_size: pairs of steps and gradient changes kept.
      first_change: mean absolute change of a pixel in the first step, in parts of white.
      restart_every: forget the history every so many steps, as tools do that call a solver in
        rounds; 0 never.
      sobolev: order of the Sobolev space whose inner product the steps are by; 0 is that of pixels.
        Losses curve more along long waves than their gradients tell: 0.5 takes half as many steps.
    """

    name = "lbfgs"
    history_size: int = number(50, 1, 1000)
    first_change: float = number(0.004, 1e-12)
    restart_every: int = number(0, 0)
    sobolev: float = number(0.0, 0.0, 2.0)

    def remembered(self, shape: tuple[int, ...]) -> int:
        """Returns two pictures for each pair, of whichever shape."""
        return 2 * self.history_size

    @property
    def kept(self) -> str:
        """Its pairs."""
        return f"{self.history_size} pairs"

    def ever_smaller(self) -> Iterator[Self]:
        """Yields itself with ever shorter histories, down to a few pairs."""
        for pairs in range(self.history_size, min(_LEAST_HISTORY, self.history_size) - 1, -1):
            yield dataclasses.replace(self, history_size=pairs)

    def rules(self, value_and_grad: ValueAndGrad, value_range: float) -> Rules:
        """Returns jaxopt's steps, each pair given enough curvature; see `LEAST_CURVATURE`."""

        def smooth(image: Image) -> Image:
            return smoothed(image, self.sobolev) if self.sobolev else image

        # jaxopt minimises over the change of a picture, in coordinates that are smoothed into
        # pixels: its gradients and pairs are of these coordinates, so that they are never undone.
        def at_change(
            change: Image, origin: tuple[Image, PyTree]
        ) -> tuple[tuple[Scalar, PyTree], PyTree]:
            image, problem = origin
            image += smooth(change)
            (value, aux), gradient = value_and_grad(image, problem)
            return (value, (image, jnp.linalg.norm(gradient), aux)), smooth(gradient)

        solver = jaxopt.LBFGS(
            at_change,
            value_and_grad=True,
            has_aux=True,
            stepsize=lambda _: 1.0,
            history_size=self.history_size,
            tol=0.0,
            implicit_diff=False,
        )
        # `init_state` would evaluate the network; the state of an objective that is 0 costs
        # nothing.
        blank_solver = jaxopt.LBFGS(
            lambda image: jnp.sum(0.0 * image),
            history_size=self.history_size,
            implicit_diff=False,
        )

        def step(image: Image, memory: PyTree, problem: PyTree) -> Evaluation:
            change, after = solver.update(jnp.zeros_like(image), memory, (image, problem))
            after_image, norm, aux = after.aux
            # As it was rounded, where pixels are the coordinates.
            pair = _pair(change if self.sobolev else after_image - image, memory, after)
            return Evaluation(after_image, after.value, aux, norm, pair)

        def remember(memory: PyTree, pair: PyTree) -> PyTree:
            newest = memory.iter_num % self.history_size
            histories = {
                name: getattr(memory, name).at[newest].set(getattr(pair, name))
                for name in ("s_history", "y_history", "rho_history")
            }
            return pair._replace(**histories)

        def armed(image: Image, memory: PyTree, scale: PyTree) -> PyTree:
            # With no history the direction is -gamma times the gradient: gamma sets the first step.
            mean_gradient = jnp.mean(jnp.abs(smooth(memory.grad)))
            change = scale * self.first_change * value_range
            gamma = jnp.where(mean_gradient > 0, change / mean_gradient, 1.0)
            return memory._replace(
                gamma=gamma,
                iter_num=jnp.zeros_like(memory.iter_num),
                rho_history=jnp.zeros_like(memory.rho_history),
            )

        return Rules(blank_solver.init_state, step, remember, armed)


def _pair(change: Image, memory: PyTree, after: PyTree) -> PyTree:
    """Returns jaxopt's state after a step, its histories the new pair alone."""
    gradient_change = after.grad - memory.grad
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
    return after._replace(
        value=memory.value,
        aux=None,
        s_history=change,
        y_history=gradient_change,
        rho_history=jnp.where(usable, 1.0 / curvature, 0.0),
        gamma=jnp.where(
            usable, curvature / jnp.vdot(gradient_change, gradient_change), memory.gamma
        ),
    )

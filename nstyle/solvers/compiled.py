"""A solver's rules as compiled functions, for one run or for many at once.

Each step is one compiled call that evaluates the network once, driven from Python: on the CPU XLA
runs a convolution inside a loop several times slower than outside, so neither a line search nor a
loop over steps comes near the network. Many runs are `jax.vmap` of one, and may be spread over
devices; one run is compiled without it, so that its last bits do not depend on that.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from nstyle.arrays import Image, PyTree
from nstyle.errors import NstyleError
from nstyle.solvers.base import Evaluation, Objective, Outside, Rules, Solver

#: A picture; or one for each of many runs.
Images = Float[Array, "h w 3"] | Float[Array, "b h w 3"]

#: The name of the compiled step, by which JAX's monitoring reports its compilations.
STEP_PROGRAM = "jit(optimisation_step)"


class Many(NamedTuple):
    """What the compiled functions of many runs are made for; hashable.

    Attributes:
      structure: of a problem, as a pytree.
      axes: for each of its arrays, 0 where each run has its own, None where all share one.
      sharding: of what each run has of its own, where that is spread over devices.
    """

    structure: PyTree
    axes: tuple[int | None, ...]
    sharding: NamedSharding | None


class Compiled(NamedTuple):
    """The compiled functions of a solver, for one run or, of stacked arrays, for many.

    Only `step` evaluates. Memories given are used up, but for that given to `step`.

    Attributes:
      blank: (images) -> memories from which `step` leaves the pictures where they are.
      step: (images, memory, problem) -> Evaluation, its memory what is new of it.
      remember: (memory, what is new) -> the memory after the step.
      arm: (which, scales, images, memory) -> memories for a first step of the chosen runs.
      rewind: (which, images, best images, memory) -> images and memories, of the chosen runs the
        best ones and blank ones.
      select: (which, images, others) -> the images of the chosen runs, the others' of the rest.
      place: (memory, run, one memory) -> memories, the run's the one given.
    """

    blank: Callable[[Images], PyTree]
    step: Callable[[Images, PyTree, PyTree], Evaluation]
    remember: Callable[[PyTree, PyTree], PyTree]
    arm: Callable[[PyTree, PyTree, Images, PyTree], PyTree]
    rewind: Callable[[PyTree, Images, Images, PyTree], tuple[Images, PyTree]]
    select: Callable[[PyTree, Images, Images], Images]
    place: Callable[[PyTree, int, PyTree], PyTree]


@functools.lru_cache(maxsize=64)
def compiled(
    objective: Objective | Outside,
    solver: Solver,
    value_range: float = 1.0,
    many: Many | None = None,
) -> Compiled:
    """Returns the compiled functions of a solver, the same ones for the same arguments.

    Args:
      objective: of one picture.
      solver: whose rules they follow.
      value_range: the value of white.
      many: what many runs have of their own; None for one run.
    """
    if isinstance(objective, Outside):
        rules = solver.rules(_as_found, value_range)
    else:
        rules = solver.rules(jax.value_and_grad(objective, has_aux=True), value_range)
    axes = None if many is None else jax.tree.unflatten(many.structure, many.axes)
    jit = functools.partial(jax.jit, out_shardings=None if many is None else many.sharding)

    def each(function: Callable[..., PyTree], in_axes: PyTree = 0) -> Callable[..., PyTree]:
        return function if many is None else jax.vmap(function, in_axes)

    def optimisation_step(images: Images, memory: PyTree, problem: PyTree) -> Evaluation:
        return each(rules.step, (0, 0, axes))(images, memory, problem)

    def arm(which: PyTree, scales: PyTree, images: Images, memory: PyTree) -> PyTree:
        return select(which, each(rules.armed)(images, memory, scales), memory)

    def rewind(
        which: PyTree, images: Images, best_images: Images, memory: PyTree
    ) -> tuple[Images, PyTree]:
        return select(which, (best_images, each(rules.blank)(images)), (images, memory))

    def select(which: PyTree, chosen: PyTree, others: PyTree) -> PyTree:
        def own(this: PyTree, one: PyTree, other: PyTree) -> PyTree:
            return jax.tree.map(functools.partial(jnp.where, this), one, other)

        return each(own)(which, chosen, others)

    def place(memory: PyTree, run: PyTree, one: PyTree) -> PyTree:
        return jax.tree.map(lambda stack, leaf: stack.at[run].set(leaf), memory, one)

    step = jit(optimisation_step)
    return Compiled(
        jit(each(rules.blank)),
        _around(objective, rules, step) if isinstance(objective, Outside) else step,
        # Apart from the step, so that the history is updated in place: a program that reads it in
        # a loop and then writes to it works on copies, 5 % of a step and as much memory again.
        jit(each(rules.remember), donate_argnums=0),
        jit(arm, donate_argnums=3),
        jit(rewind, donate_argnums=3),
        jit(select),
        _given if many is None else jit(place, donate_argnums=0),
    )


def _as_found(image: Image, found: PyTree) -> PyTree:
    """Stands for an evaluation that was made outside: its results are in the problem's place."""
    return found


def _given(memory: PyTree, run: int, one: PyTree) -> PyTree:
    """Places the memory of the only run."""
    return one


def _around(
    objective: Outside, rules: Rules, judge: Callable[..., Evaluation]
) -> Callable[[Image, PyTree, PyTree], Evaluation]:
    """Returns a step that moves in one compiled call, evaluates outside, and judges in another."""

    @jax.jit
    def move(image: Image, memory: PyTree, problem: PyTree) -> Image:
        # Where a step leads does not depend on what is found there; only its shapes are needed.
        shapes = jax.eval_shape(jax.value_and_grad(objective.like, has_aux=True), image, problem)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return rules.step(image, memory, nothing).image

    def step(image: Image, memory: PyTree, problem: PyTree) -> Evaluation:
        moved = move(image, memory, problem)
        found = objective.value_and_grad(moved, problem)
        return judge(image, memory, found)._replace(image=moved)

    return step


def stacked(problems: Sequence[PyTree]) -> tuple[PyTree, tuple[int | None, ...]]:
    """Returns the problem of many runs from those of each, and which of its arrays are stacked.

    An array that is the very same object in all of them, the network's weights say, is shared and
    not copied. Everything else is stacked, and so is every single number, so that runs that differ
    in numbers have the same axes.

    Args:
      problems: pytrees of one structure, one for each run.

    Returns:
      A pytree of the same structure, and for each of its arrays 0 (stacked) or None (shared).

    Raises:
      NstyleError: arrays differ in shape between runs.
    """

    def share(*own: PyTree) -> bool:
        return np.ndim(own[0]) > 0 and all(leaf is own[0] for leaf in own)

    def join(*own: PyTree) -> PyTree:
        shapes = list(dict.fromkeys(np.shape(leaf) for leaf in own))
        if len(shapes) > 1:
            raise NstyleError(f"a batch needs arrays of one shape, not {shapes[0]} and {shapes[1]}")
        return own[0] if share(*own) else jnp.stack([jnp.asarray(leaf) for leaf in own])

    by_array = zip(*map(jax.tree.leaves, problems), strict=True)
    axes = tuple(None if share(*own) else 0 for own in by_array)
    return jax.tree.map(join, *problems), axes


class Layout(NamedTuple):
    """How runs lie in arrays, and those on devices: many stacked, one as it is.

    Attributes:
      size: runs.
      places: runs, and copies that make them divide by the number of devices.
      own: where stacked arrays are; None leaves them.
      shared: where shared arrays are.
    """

    size: int
    places: int
    own: NamedSharding | None
    shared: NamedSharding | None

    @classmethod
    def of(cls, size: int, devices: Sequence[jax.Device] | None) -> Self:
        """Returns how many runs lie that are spread over devices; None leaves them, as one run."""
        if devices is None or size == 1:
            return cls(size, size, None, None)
        mesh = Mesh(np.array(devices), ("runs",))
        own, shared = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (["runs"], []))
        return cls(size, size + -size % len(devices), own, shared)

    def pictures(self, rows: Sequence[Image]) -> Images:
        """Returns the pictures of all runs."""
        # A weak type would compile a step of its own.
        rows = [jnp.asarray(row, jnp.float32) for row in rows]
        return rows[0] if self.size == 1 else self._spread(jnp.stack(rows))

    def problem(self, problems: Sequence[PyTree]) -> tuple[PyTree, Many | None]:
        """Returns the problem of all runs, its arrays where they belong, and what it is made of."""
        if self.size == 1:
            return problems[0], None
        joined, axes = stacked(problems)
        arrays, structure = jax.tree.flatten(joined)
        placed = [
            jax.device_put(array, self.shared) if axis is None else self._spread(array)
            for array, axis in zip(arrays, axes, strict=True)
        ]
        return jax.tree.unflatten(structure, placed), Many(structure, axes, self.own)

    def mask(self, runs: Iterable[int]) -> np.ndarray:
        """Returns which places are those of `runs`; of one run, whether it is among them."""
        mask = np.isin(np.arange(self.places), list(runs))
        return mask[0] if self.size == 1 else mask

    def scales(self, scales: Mapping[int, float]) -> np.ndarray:
        """Returns what shortens the next step in every place; 1 where nothing is said of a run."""
        found = np.ones(self.places, np.float32)
        for run, scale in scales.items():
            found[run] = scale
        return found[0] if self.size == 1 else found

    def rows(self, stack: PyTree) -> Sequence[PyTree]:
        """Returns what each run has of arrays on the host."""
        if self.size == 1:
            return [stack]
        return [_of(stack, run) for run in range(self.size)]

    def taken(self, stack: PyTree, run: int) -> PyTree:
        """Returns what a run has of arrays: of many a copy, of one the arrays themselves."""
        return stack if self.size == 1 else _taken(stack, run)

    def _spread(self, stack: Array) -> Array:
        copies = self.places - self.size
        if copies:
            stack = jnp.concatenate([stack, *[stack[-1:]] * copies])
        return jax.device_put(stack, self.own)


def _of(stack: PyTree, run: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[run], stack)


#: `_of` as one compiled call for all runs.
_taken = jax.jit(_of)

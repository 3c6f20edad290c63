"""Minimisations of one structure optimised together: one compiled step for all of them.

`jax.vmap` of the rules that `solver.minimize` follows, and its safeguard for each member by itself:
every evaluation of the batch is one of each member's own, whether it takes its next step or goes
back to its best picture, so no member waits for another. Members may be spread over devices.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float

from nstyle.arrays import Image
from nstyle.errors import NstyleError
from nstyle.networks import NETWORKS, extent, kernel_shape, needed, width
from nstyle.objective import Structure
from nstyle.solver import (
    LBFGS,
    Course,
    Method,
    Objective,
    Record,
    State,
    Stopping,
    begun,
    failed,
    improved,
    judged,
    memory_bytes,
    reason_to_stop,
    restart_scale,
    restarted,
    round_ends,
    rules_of,
)

Images = Float[Array, "b h w 3"]

_FLOAT_BYTES = 4

#: Pixels of a batch on a CPU; more bring next to nothing. On two cores four members took 0.65 of
#: the processor time of one after another at 64 px, 0.84 at 128 px and 0.94 at 256 px, sixteen at
#: 64 px 0.55.
CPU_PIXELS = 256 * 256

#: Share of the memory that is counted on; the rest is for fragmentation and the compiler.
_USABLE_SHARE = 0.9


class Member(NamedTuple):
    """Where one member of a batch stands; its fields are those of `solver.Iteration`.

    Attributes:
      step: 0 for the first picture, then 1, 2, ...
      value: the loss of this step's picture; not finite where the step was rejected for that.
      aux: the objective's auxiliary output for this step's picture, on the host.
      gradient_norm: Euclidean norm of the gradient.
      best_value: the lowest finite loss so far.
      best_step: its step.
      restarts: how often the safeguard went back to the best picture.
      stop: why this step was the member's last, one of `solver.STOPS`; empty before. A member
        whose first loss is not finite is `diverged` at step 0; `solver.check_start` raises for it
        what `solver.minimize` would.
    """

    step: int
    value: float
    aux: Any
    gradient_norm: float
    best_value: float
    best_step: int
    restarts: int
    stop: str


class Round(NamedTuple):
    """What `minimize_batch` yields after every evaluation of the batch.

    Attributes:
      members: where each member stands; one that has stopped stays as it was.
      advanced: the members that have made a step in this round; the others are on their way back
        to their best pictures, or have stopped.
      best_image: (member) -> its picture of the lowest finite loss so far.
      course: (member) -> what `solver.minimize`, or `minimize_batch`, goes on from, a copy; to be
        called before the next round, which uses the batch's arrays up.
    """

    members: tuple[Member, ...]
    advanced: tuple[int, ...]
    best_image: Callable[[int], Image]
    course: Callable[[int], Course]


def stacked(problems: Sequence[Any]) -> tuple[Any, Any]:
    """Returns the arguments of a batch from those of its members, and which of them are batched.

    An array that is the very same object in all members, the network's weights say, is shared and
    not copied. Everything else is stacked, and so is every single number, so that batches that
    differ in numbers have the same axes.

    Args:
      problems: pytrees of one structure, one for each member.

    Returns:
      A pytree of the same structure, and as `axes` one of 0 (batched) and None (shared).

    Raises:
      NstyleError: arrays differ in shape between members.
    """

    def share(*own: Any) -> bool:
        return np.ndim(own[0]) > 0 and all(leaf is own[0] for leaf in own)

    def join(*own: Any) -> Any:
        shapes = list(dict.fromkeys(np.shape(leaf) for leaf in own))
        if len(shapes) > 1:
            raise NstyleError(f"a batch needs arrays of one shape, not {shapes[0]} and {shapes[1]}")
        return own[0] if share(*own) else jnp.stack([jnp.asarray(leaf) for leaf in own])

    axes = jax.tree.map(lambda *own: None if share(*own) else 0, *problems)
    return jax.tree.map(join, *problems), axes


def minimize_batch(
    objective: Objective,
    images: Images,
    args: Any,
    axes: Any,
    method: Method = LBFGS(),  # noqa: B008, frozen
    stopping: Stopping = Stopping(),  # noqa: B008, immutable
    value_range: float = 1.0,
    resume: Sequence[Course | None] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Iterator[Round]:
    """Minimises `objective` over several pictures at once, each as `solver.minimize` does.

    A generator; its last round is the one after which all members have stopped. A member decides
    alone: going back to its best picture costs it one evaluation, during which the others take
    their steps; what it computes after it has stopped is dropped. Up to rounding, members follow
    the same course as by themselves.

    Args:
      objective: a hashable function (value, aux) of one picture and its arguments; compiled once
        per objective, method, axes, shapes and devices. Its auxiliary output is brought to the host
        every round.
      images: where to start, float32 in [0, `value_range`], stacked (b, h, w, 3).
      args: traced arguments; batched leaves have a leading axis of length b.
      axes: for each leaf, or for a whole branch, 0 where it is batched, None where all members
        share it; see `stacked`.
      method: `LBFGS`, `Adam` or `SGD`.
      stopping: limits, of every member.
      value_range: the value of white.
      resume: the course of each member to go on from, with the same arguments; None for a member
        that starts from its picture. One whose course had ended takes no step.
      devices: spread the members over these, shared arguments copied to each; None leaves
        everything where it is.
    """
    layout = _layout(len(images), devices)
    programs, leaves = _prepared(objective, args, axes, method, value_range, layout)
    resumed = {i: course for i, course in enumerate(resume or ()) if course is not None}

    starts = jnp.asarray(images, jnp.float32)  # a weak type would compile a step of its own

    def pictures(of: Callable[[Course], Image]) -> Images:
        return layout.spread(
            [of(resumed[i]) if i in resumed else start for i, start in enumerate(starts)]
        )

    best_images = pictures(lambda course: course.best_image)
    images = pictures(lambda course: course.state.image)
    memory = programs.blank(images)
    for i, course in resumed.items():
        memory = programs.place(memory, i, course.state.memory)
    records = {i: course.record for i, course in resumed.items()}
    restarts: dict[int, Record] = {}  # members back at their best picture, about to step from it
    members = {
        i: _member(
            course.record,
            jax.device_get(course.state.aux),
            reason_to_stop(course.record, stopping),
        )
        for i, course in resumed.items()
    }
    running = [i for i in range(layout.size) if i not in members or not members[i].stop]
    while running:
        ready = [i for i in running if i in records and i not in restarts]
        failing = {i: restarted(records[i]) for i in ready if failed(records[i], stopping)}
        forgetting = [i for i in ready if i not in failing and round_ends(records[i], method)]
        starting = [i for i in running if i in failing or i not in records]
        if failing:
            images, memory = programs.rewind(layout.mask([*failing]), images, best_images, memory)
        if forgetting:
            memory = programs.arm(layout.mask(forgetting), layout.scales({}), images, memory)
        state = programs.step(images, memory, leaves)
        state = state._replace(memory=programs.remember(memory, state.memory))
        if starting:
            memory = programs.arm(
                layout.mask(starting), layout.scales(failing), state.image, state.memory
            )
            state = state._replace(memory=memory)
        images, memory = state.image, state.memory

        values, norms, aux = jax.device_get((state.value, state.gradient_norm, state.aux))
        advanced = [i for i in running if i not in failing]
        for i in advanced:
            numbers = float(values[i]), float(norms[i])
            if i in records:
                records[i] = judged(restarts.get(i, records[i]), *numbers)
            else:
                records[i] = begun(*numbers, stopping)
            members[i] = _member(records[i], _of(aux, i), reason_to_stop(records[i], stopping))
        better = [i for i in advanced if improved(records[i])]
        if len(better) == layout.size:
            best_images = images
        elif better:
            best_images = programs.select(layout.mask(better), images, best_images)
        restarts = failing
        running = [i for i in running if not members[i].stop]
        yield Round(
            tuple(members[i] for i in range(layout.size)),
            tuple(advanced),
            functools.partial(_taken, best_images),
            functools.partial(_course, state, best_images, dict(records)),
        )


def member_bytes(structure: Structure, shape: tuple[int, ...], method: Method) -> int:
    """Returns about how much memory one member of a batch takes, rather too much than too little.

    One evaluation (`Architecture.evaluation_bytes`), what the solver keeps (`solver.memory_bytes`),
    and the targets, features of the content layers and Gram matrices of the style layers.

    Args:
      structure: static part of the objective.
      shape: of the picture, height first.
      method: the solver.
    """
    network = structure.network
    content = sum(
        width(layer, network) * math.prod(extent(layer, network, shape))
        for layer in structure.content_layers
    )
    targets = len(structure.regions)
    style = targets * sum(width(layer, network) ** 2 for layer in structure.style_layers)
    evaluation = NETWORKS[network].evaluation_bytes * shape[0] * shape[1]
    return evaluation + memory_bytes(method, shape) + _FLOAT_BYTES * (content + style)


def shared_bytes(structure: Structure) -> int:
    """Returns about how much memory all members share: the network, and its kernels turned round.

    The turned kernels take the gradient back through the convolutions.
    """
    used = needed(structure.layers, structure.network)
    return sum(2 * _FLOAT_BYTES * math.prod(kernel_shape(name, structure.network)) for name in used)


def batch_size(
    structure: Structure, shape: tuple[int, ...], method: Method, bytes_free: int
) -> int:
    """Returns how many members fit into the free memory of a device, at least one.

    See `member_bytes` and `shared_bytes`; a tenth of the memory is left alone.
    """
    usable = _USABLE_SHARE * bytes_free - shared_bytes(structure)
    return max(1, int(usable / member_bytes(structure, shape, method)))


def automatic(
    structure: Structure,
    shape: tuple[int, ...],
    method: Method,
    devices: Sequence[jax.Device] | None = None,
) -> int:
    """Returns how many members to optimise together on these devices, by default the first one.

    On a GPU as many as fit. On a CPU so many that their pictures together have `CPU_PIXELS`: one
    evaluation reads and turns all kernels, which takes as long as some 4,000 pixels do.
    """
    devices = devices or jax.devices()[:1]
    stats = [device.memory_stats() for device in devices]
    if not all(stats):
        return len(devices) * max(1, CPU_PIXELS // (shape[0] * shape[1]))
    free = min(found["bytes_limit"] - found["bytes_in_use"] for found in stats)
    return len(devices) * batch_size(structure, shape, method, free)


def _member(record: Record, aux: Any, stop: str) -> Member:
    return Member(
        record.step,
        record.value,
        aux,
        record.gradient_norm,
        record.best_value,
        record.best_step,
        record.restarts,
        stop,
    )


def _course(state: State, best_images: Images, records: dict[int, Record], i: int) -> Course:
    own, best_image = _taken((state, best_images), i)
    return Course(own, best_image, records[i])


def _of(stack: Any, i: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[i], stack)


#: `_of` as one compiled call for all members.
_taken = jax.jit(_of)


def _is_none(leaf: Any) -> bool:
    return leaf is None


class _Layout(NamedTuple):
    """How members lie in the arrays of a batch, and those on devices.

    Attributes:
      size: members.
      places: members and copies that make them divide by the number of devices.
      batched: where batched arrays are; None leaves them.
      shared: where shared arrays are.
    """

    size: int
    places: int
    batched: NamedSharding | None
    shared: NamedSharding | None

    def spread(self, rows: Any) -> Any:
        """Returns an array with a row for every place."""
        copies = [rows[-1]] * (self.places - self.size)
        stack = jnp.stack([*rows, *copies]) if copies or isinstance(rows, list) else rows
        return jax.device_put(stack, self.batched)

    def mask(self, members: Iterable[int]) -> np.ndarray:
        """Returns which places are those of `members`."""
        return np.isin(np.arange(self.places), list(members))

    def scales(self, restarts: Mapping[int, Record]) -> np.ndarray:
        """Returns what shortens the next step in every place."""
        scales = np.ones(self.places, np.float32)
        for member, record in restarts.items():
            scales[member] = restart_scale(record)
        return scales


def _layout(size: int, devices: Sequence[jax.Device] | None) -> _Layout:
    if devices is None:
        return _Layout(size, size, None, None)
    mesh = Mesh(np.array(devices), ("members",))
    batched, shared = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (["members"], []))
    return _Layout(size, size + -size % len(devices), batched, shared)


def _prepared(
    objective: Objective,
    args: Any,
    axes: Any,
    method: Method,
    value_range: float,
    layout: _Layout,
) -> tuple["Programs", list[Any]]:
    """Returns the compiled functions, and the leaves of the arguments where they belong."""
    leaves, treedef = jax.tree.flatten(args)
    axes = jax.tree.broadcast(axes, args, is_leaf=_is_none)
    by_leaf = tuple(jax.tree.leaves(axes, is_leaf=_is_none))
    placed = [
        jax.device_put(leaf, layout.shared) if axis is None else layout.spread(leaf)
        for leaf, axis in zip(leaves, by_leaf, strict=True)
    ]
    return compile_batch(objective, method, value_range, treedef, by_leaf, layout.batched), placed


class Programs(NamedTuple):
    """The compiled functions of a batch; only `step` evaluates. Memories given are used up.

    Attributes:
      blank: (images) -> memories from which `step` leaves the pictures where they are.
      step: (images, memory, leaves of the arguments) -> State, stacked, its memory what is new of
        it; leaves the memory given as it is.
      remember: (memory, what is new) -> the memory after the step.
      arm: (which, scales, images, memory) -> memories for a first step of the chosen members.
      rewind: (which, images, best images, memory) -> images and memories, of the chosen members
        the best ones and blank ones.
      select: (which, images, others) -> the images of the chosen members, the others' of the rest.
      place: (memory, member, one memory) -> memories, the member's the one given.
    """

    blank: Callable[[Images], Any]
    step: Callable[[Images, Any, list[Any]], State]
    remember: Callable[[Any, Any], Any]
    arm: Callable[[np.ndarray, np.ndarray, Images, Any], Any]
    rewind: Callable[[np.ndarray, Images, Images, Any], tuple[Images, Any]]
    select: Callable[[np.ndarray, Images, Images], Images]
    place: Callable[[Any, int, Any], Any]


@functools.lru_cache(maxsize=32)
def compile_batch(
    objective: Objective,
    method: Method,
    value_range: float,
    treedef: Any,
    axes: tuple[int | None, ...],
    sharding: NamedSharding | None,
) -> Programs:
    """Returns the compiled functions of a batch, the same ones for the same arguments.

    Args:
      objective: of one picture.
      method: the solver.
      value_range: the value of white.
      treedef: the structure of the objective's arguments.
      axes: of each of its leaves, 0 where it is batched, None where it is shared.
      sharding: of everything batched, where it is spread over devices.
    """
    rules = rules_of(jax.value_and_grad(objective, has_aux=True), method, value_range)
    jit = functools.partial(jax.jit, out_shardings=sharding)

    def member_step(image: Any, memory: Any, leaves: list[Any]) -> State:
        return rules.step(image, memory, treedef.unflatten(leaves))

    def optimisation_step(images: Images, memory: Any, leaves: list[Any]) -> State:
        return jax.vmap(member_step, in_axes=(0, 0, list(axes)))(images, memory, leaves)

    def arm(which: Bool[Array, " b"], scales: Any, images: Images, memory: Any) -> Any:
        return select(which, jax.vmap(rules.armed)(images, memory, scales), memory)

    def rewind(
        which: Bool[Array, " b"], images: Images, best_images: Images, memory: Any
    ) -> tuple[Images, Any]:
        return select(which, (best_images, jax.vmap(rules.blank)(images)), (images, memory))

    def select(which: Bool[Array, " b"], chosen: Any, others: Any) -> Any:
        own = jax.vmap(
            lambda this, one, other: jax.tree.map(functools.partial(jnp.where, this), one, other)
        )
        return own(which, chosen, others)

    def place(memory: Any, i: Any, one: Any) -> Any:
        return jax.tree.map(lambda stack, leaf: stack.at[i].set(leaf), memory, one)

    return Programs(
        jit(jax.vmap(rules.blank)),
        jit(optimisation_step),
        jit(jax.vmap(rules.remember), donate_argnums=0),  # apart, as in `compile_steps`
        jit(arm, donate_argnums=3),
        jit(rewind, donate_argnums=3),
        jit(select),
        jit(place, donate_argnums=0),
    )

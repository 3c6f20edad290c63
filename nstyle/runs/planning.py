"""Plans: a run whose inputs are read and checked, before anything is computed."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np
from omegaconf import DictConfig

from nstyle.config import check, record, scores
from nstyle.errors import NstyleError
from nstyle.files import Json
from nstyle.images import colour
from nstyle.losses import ContentLoss, Smoothing, StyleLoss
from nstyle.networks import Pooling, depth, gradient_flops
from nstyle.objective import LossWeights, Structure
from nstyle.objective.memory import bytes_beside, evaluation_bytes
from nstyle.objective.problems import check_size
from nstyle.objective.regions import Guide, Labels
from nstyle.records import Record, tried
from nstyle.runs.fitting import TILED_COST, check_memory, fitting_solver, fitting_tile
from nstyle.runs.inputs import (
    Detail,
    Given,
    Network,
    Picture,
    Size,
    blend_of,
    first_pictures,
    network_of,
    read_content,
    read_content_map,
    read_guide,
    read_styles,
    recoloured,
    texture_shape,
)
from nstyle.solvers import Solver

T = TypeVar("T")


class Plan(NamedTuple):
    """A run whose inputs are read and checked; nothing is computed yet.

    Attributes:
      structure: static part of the objective.
      network: the weights of the network.
      weights: the weights of the terms.
      content: the photograph, where the run has one.
      styles: the paintings, as given; none where the run needs none.
      recoloured: the paintings as they are compared with, see `colour.recoloured`.
      blend: see `objective.Problem`.
      guide: the regions of result and paintings, where the run has them.
      content_map: weights of the content term, of any size, likewise.
      sizes: from the coarsest to that of the result.
      initial: the first picture, of the coarsest size.
      solver: the solver.
      detail: what a picture gets when it is scaled up.
      tolerance: see `solvers.Stopping`.
      balanced: whether terms are divided by their references, see `balance`.
      notes: what the user should know, a line each.
    """

    structure: Structure
    network: Network
    weights: LossWeights
    content: Picture | None
    styles: tuple[Picture, ...]
    recoloured: tuple[Picture, ...]
    blend: tuple[float, ...]
    guide: Guide | None
    content_map: Picture | None
    sizes: tuple[Size, ...]
    initial: Picture
    solver: Solver
    detail: Detail
    tolerance: float
    balanced: bool
    notes: tuple[str, ...]

    @property
    def memory(self) -> int:
        """Estimate of the peak memory of a process that makes the run, in bytes."""
        return max(
            evaluation_bytes(self.structure, size.shape, size.tile)
            + bytes_beside(self.solver, size.shape)
            for size in self.sizes
        )

    @property
    def operations(self) -> float:
        """Floating-point operations of all the run's evaluations."""
        return sum(
            (size.steps + 1)
            * gradient_flops(self.structure.layers, self.structure.network, size.shape)
            * (1.0 if size.tile is None else TILED_COST)
            for size in self.sizes
        )

    @property
    def records(self) -> tuple[Record, ...]:
        """What decides the result by its code, which may be a user's own."""
        chosen = (*self.structure.records.values(), self.solver)
        return tuple(part for own in chosen for part in own.parts)

    @property
    def digests(self) -> dict[str, str]:
        """Hashes of the inputs' contents, by name."""
        pictures: dict[str, Picture | Labels | None] = {
            "content": self.content,
            **_numbered("style", self.styles),
            "init": self.detail.first or self.initial,
            "content_weight_map": self.content_map,
        }
        if self.guide is not None:
            pictures["content_mask"] = self.guide.content
            pictures |= _numbered("style_mask", self.guide.styles)
        found = {name: picture.digest for name, picture in pictures.items() if picture is not None}
        return found | {"weights": self.network.sha256}

    @property
    def style_shares(self) -> tuple[float, ...]:
        """The share of each style picture in the style term."""
        if self.guide is None:
            return self.blend[: len(self.styles)]
        left = iter(self.blend)
        counts = [len(self.guide.served(style)) for style in range(len(self.styles))]
        return tuple(sum(itertools.islice(left, count)) for count in counts)


def _numbered(name: str, pictures: Sequence[T]) -> dict[str, T]:
    """Returns pictures by name, with numbers from 1 where there are several."""
    if len(pictures) == 1:
        return {name: pictures[0]}
    return {f"{name}_{number}": picture for number, picture in enumerate(pictures, 1)}


class Kind(NamedTuple):
    """What runs must have in common to be optimised together: all that decides compiled steps.

    Attributes:
      structure: static part of the objective.
      network: the weights of the network, which are not copied.
      solver: the solver.
      tolerance: see `solvers.Stopping`.
      sizes: of the runs, without those of their style pictures.
    """

    structure: Structure
    network: Network
    solver: Solver
    tolerance: float
    sizes: tuple[Size, ...]


def structure_of(config: DictConfig, pixels: str) -> Structure:
    """Returns the static part of the settings; `pixels` is the family of the weights.

    Raises:
      NstyleError: a name is not one of those allowed.
    """
    pooling = record(config, Pooling)
    if config.pooling_scale is not None:
        pooling = dataclasses.replace(pooling, scale=config.pooling_scale)
    return Structure(
        network=config.network,
        pooling=pooling,
        pixels=pixels,
        content_layers=tuple(config.content_layers),
        style_layers=tuple(config.style_layers),
        tv_kind=config.tv_kind,
        value_range=config.value_range,
        precision=config.precision,
        luminance=config.colour in colour.OF_LUMINANCE,
        content_loss=record(config, ContentLoss),
        style_loss=record(config, StyleLoss),
        smoothing=record(config, Smoothing),
        padding=config.padding,
    )


def plan(config: DictConfig, pictures: Given = MappingProxyType({})) -> Plan:
    """Reads what the settings name and checks it all.

    Pictures and weights that the last plans read are not read again.

    Args:
      config: from `config.compose`, or what Hydra composed.
      pictures: `content`, one, and `style`, one or several, as arrays in place of files.

    Raises:
      NstyleError: one line that names what is wrong.
    """
    check(config)
    # The family is not known yet; everything else is checked before a file is read.
    structure = structure_of(config, "torchvision")
    content = read_content(config, structure, pictures)
    styles = read_styles(config, structure, pictures, content)
    seen = [recoloured(config.colour, style, content) for style in styles]
    shape = content.shape if content is not None else texture_shape(config, styles)
    asked = record(config, Solver)
    tried(asked, Solver)
    check_memory(config, shape, bytes_beside(asked, shape))
    _check_pictures(config, structure, [] if content is None else [content], styles)
    guide = read_guide(config, pictures, shape, len(styles))
    content_map = read_content_map(config, pictures)
    regions = (None,) * max(1, len(styles)) if guide is None else guide.regions

    network = network_of(config)
    structure = dataclasses.replace(
        structure_of(config, network.pixels),
        regions=regions,
        content_weighted=content_map is not None,
    )
    solver = fitting_solver(config, structure, shape, asked)
    sizes = _sizes(config, structure, shape, [style.shape for style in styles], guide, solver)
    initial, detail = first_pictures(config, structure, sizes, content, seen)
    check_size(structure, "init", initial.array.shape)
    return Plan(
        structure,
        network,
        loss_weights(config, structure),
        None if content is None else Picture.of(content),
        tuple(map(Picture.of, styles)),
        tuple(map(Picture.of, seen)),
        blend_of(config, guide, max(1, len(styles))),
        guide,
        content_map,
        sizes,
        initial,
        solver,
        detail,
        config.tolerance,
        config.balance,
        (
            *_notes(config, network.pixels),
            *_judge_notes(config),
            *_history_notes(config, asked, solver),
        ),
    )


def _check_pictures(
    config: DictConfig,
    structure: Structure,
    contents: Sequence[np.ndarray],
    styles: Sequence[np.ndarray],
) -> None:
    """Refuses pictures that are too large for the memory, or too small for the layers."""
    for name, found in (("content", contents), ("style", styles)):
        for picture in found:
            check_memory(config, picture.shape, 0)
            if getattr(structure, f"{name}_layers"):
                check_size(structure, name, picture.shape)


def kind_of(planned: Plan) -> Kind:
    """Returns what another run must be like to be optimised together with this one."""
    sizes = tuple(size._replace(style_shapes=()) for size in planned.sizes)
    return Kind(planned.structure.static, planned.network, planned.solver, planned.tolerance, sizes)


def _sizes(
    config: DictConfig,
    structure: Structure,
    shape: tuple[int, ...],
    style_shapes: Sequence[tuple[int, ...]],
    guide: Guide | None,
    solver: Solver,
) -> tuple[Size, ...]:
    """Returns the sizes of a pyramid at which the network sees all regions, from the coarsest.

    Raises:
      NstyleError: at the size of the result it does not see them all, or a size does not fit.
    """
    pyramid = config.pyramid

    def at(level: int) -> Size:
        def scaled(shape: tuple[int, ...]) -> tuple[int, ...]:
            height, width = (round(side / pyramid.factor**level) for side in shape[:2])
            return height, width, 3

        steps = config.steps
        if level:
            steps = min(steps, round(pyramid.steps * pyramid.factor ** (level - 1)))
        return Size(scaled(shape), tuple(map(scaled, style_shapes)), steps)

    def unseen(size: Size) -> str | None:
        if guide is None:
            return None
        shapes = (size.shape, size.style_shapes)
        return guide.unseen(*shapes, structure.style_layers, structure.network)

    def large_enough(size: Size) -> bool:
        sides = [side for shape in (size.shape, *size.style_shapes) for side in shape[:2]]
        seen = min(sides) >= structure.minimum_size and not unseen(size)
        return max(size.shape) >= pyramid.least and seen

    if lacking := unseen(at(0)):
        raise NstyleError(lacking)
    coarser = [at(level) for level in range(pyramid.levels - 1, 0, -1)]
    sizes = (*filter(large_enough, coarser), at(0))
    # From the largest: where memory is too little, it is the one to tell of.
    tiled = [
        size._replace(tile=fitting_tile(config, structure, size.shape, solver))
        for size in sizes[::-1]
    ]
    return tuple(tiled[::-1])


def _notes(config: DictConfig, pixels: str) -> Iterator[str]:
    found = {"network": config.network, "pixels": pixels}
    for name, value in found.items():
        tuned = config[f"tuned_{name}"]
        if tuned not in (None, value):
            yield (
                f"the numbers of recipe={config.recipe} were tuned for {name} {tuned},"
                f" this run has {value}: its balance of content, style and total variation differs"
            )


def _judge_notes(config: DictConfig) -> Iterator[str]:
    """Says where the network that a run optimises judges the result too.

    A judge of many layers is meant: VGG-16's one score, which is asked for, is no surprise.
    """
    own = [name for name, score in scores(config).items() if score.judge == config.network]
    if len(own) > 1:
        yield (
            f"{', '.join(own)} are of {config.network}, which this run optimises: they flatter it;"
            " vgg_score=true adds what VGG-16 says"
        )


def _history_notes(config: DictConfig, asked: Solver, solver: Solver) -> Iterator[str]:
    if solver != asked:
        yield (
            f"the solver keeps {solver.kept} instead of {asked.kept} with memory={config.memory}:"
            " its steps get somewhat less far"
        )


def loss_weights(config: DictConfig, structure: Structure) -> LossWeights:
    """Returns the weight of every term that the settings name."""

    def weights(name: str, layers: tuple[str, ...]) -> Json:
        own, total = (
            layer_weights(config, name, layers, structure.network),
            config[f"{name}_weight"],
        )
        if config.balance:
            total /= sum(own.values()) or 1.0
        return {layer: total * share for layer, share in own.items()}

    return LossWeights(
        weights("content", structure.content_layers),
        weights("style", structure.style_layers),
        config.tv_weight,
    )


def layer_weights(
    config: DictConfig, name: str, layers: tuple[str, ...], network: str
) -> dict[str, float]:
    """Returns what each layer counts in its term: as told, or shares that sum to 1.

    Where terms have no unit it is the weight of a layer in their mean, so that the total is
    `content_weight` times the mean of content terms and `style_weight` times that of style terms.

    Args:
      config: the settings.
      name: `content` or `style`.
      layers: of that term.
      network: whose layers they are; deeper ones come later.
    """
    told = config[f"{name}_layer_weights"]
    if told is not None:
        return dict(zip(layers, told, strict=True))
    falloff = config.style_falloff if name == "style" else 1.0
    by_depth = sorted(layers, key=functools.partial(depth, network=network))
    counts = {layer: falloff**-depth for depth, layer in enumerate(by_depth)}
    return {layer: counts[layer] / sum(counts.values()) for layer in layers}

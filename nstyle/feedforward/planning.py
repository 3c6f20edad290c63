"""From the settings of a training to what it needs, read and checked."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import DictConfig

from nstyle import images
from nstyle.config import LOSS_KEYS, NAME_KEYS, deciding, files, flat
from nstyle.errors import NstyleError
from nstyle.feedforward import data
from nstyle.feedforward.network import LEAST_SIDE, Architecture
from nstyle.feedforward.training import Goal, Recipe, stacked_styles
from nstyle.files import Json
from nstyle.networks import Params
from nstyle.objective import LossWeights, Problem, References, Structure, Targets
from nstyle.objective.problems import check_size, content_target, reference, style_target
from nstyle.runs.inputs import Picture, network_of, style_size
from nstyle.runs.planning import loss_weights, structure_of
from nstyle.trackers import Followed

#: Settings that say where results go and how often, not what they are.
_OUTPUT_KEYS = ("out", "checkpoint_every", "sample_every", "tracker")


class Plan(NamedTuple):
    """A training whose inputs are read and checked.

    Attributes:
      recipe: its static part.
      goal: what its losses are evaluated with.
      pictures: to learn from.
      held_out: pictures to judge it by, float32 (n, size, size, 3).
      styles: file and hash of every style picture.
      losses: the settings of its losses.
      settings: all that decides the result, as JSON has it.
    """

    recipe: Recipe
    goal: Goal
    pictures: data.Pictures
    held_out: np.ndarray
    styles: list[dict[str, str]]
    losses: Json
    settings: Json

    @property
    def identity(self) -> str:
        """A hash of the settings; one that comes later is null in them, and left out."""
        told = {
            group: {key: own[key] for key in own if own[key] is not None}
            if isinstance(own, dict)
            else own
            for group, own in self.settings.items()
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def followed(self, out: Path, first: int) -> Followed:
        """Returns what a tracker is told of the training in a folder, before a step."""
        settings = flat({"training": self.settings["training"], **self.losses})
        return Followed(out.name, self.identity[:12], out, settings, first)


def plan(training: DictConfig, losses: DictConfig) -> Plan:
    """Reads what the settings name and checks it all.

    Raises:
      NstyleError: one line that names what is wrong.
    """
    paintings = [file for file in files(training, "style") if file]
    if not paintings and training.upscale is None:
        raise NstyleError("style: no picture given; add style=FILE")
    architecture = Architecture(
        width=training.width,
        blocks=training.blocks,
        styles=max(1, len(paintings)),
        upsampling=training.upsampling,
        upscale=training.upscale,
        border=training.border,
    )
    if training.upscale is not None:
        _check_upscale(training, losses)
    elif not losses.style_layers:
        raise NstyleError("style_layers: none, so that nothing of a style would be learnt")
    structure = structure_of(losses, "torchvision")
    square = (training.size, training.size, 3)
    check_size(structure, "size", square)
    read_at = style_size(losses.style_size, training.size, square)
    styles = [Picture.of(images.load(file, read_at)) for file in paintings]
    for picture in styles:
        check_size(structure, "style", picture.array.shape)
    pictures = data.pictures_of(training.images)
    held_out = data.held_out(pictures, training.size)

    network = network_of(losses)
    structure = structure_of(losses, network.pixels)
    targets: list[Json] = [style_target(structure, network.params, s.array) for s in styles]
    goal = Goal(network.params, stacked_styles(targets or [{}]), loss_weights(losses, structure))
    if losses.balance:
        found = _references(structure, network.params, targets or [{}], held_out)
        goal = goal._replace(references=found)
    named = [
        {"file": Path(file).name, "sha256": picture.digest}
        for file, picture in zip(paintings, styles, strict=True)
    ]
    own = {key: training[key] for key in training if key not in (*_OUTPUT_KEYS, "style", "images")}
    kept = loss_settings(losses)
    settings = {
        "training": own,
        "losses": {key: kept[key] for key in kept if key not in NAME_KEYS},
        "style": [style["sha256"] for style in named],
        "images": pictures.digest,
        "weights": network.sha256,
    }
    recipe = Recipe(
        structure, architecture, training.steps, training.learning_rate, training.final_rate
    )
    return Plan(recipe, goal, pictures, held_out, named, kept, settings)


def _references(
    structure: Structure, params: Params, targets: list[Json], pictures: np.ndarray
) -> References:
    """Returns the references of a training, means over the pictures held out; see `Goal`."""
    contents = [content_target(structure, params, jnp.asarray(picture)) for picture in pictures]

    def of_style(target: Json) -> References:
        found = []
        for picture, content in zip(pictures, contents, strict=True):
            problem = Problem(params, Targets(content, target), LossWeights({}, {}))
            found.append(reference(structure, problem, picture))
        return jax.tree.map(lambda *values: jnp.mean(jnp.stack(values)), *found)

    by_style = [of_style(target) for target in targets]
    own = jax.tree.map(lambda *values: jnp.stack(values), *(found.style for found in by_style))
    return References(by_style[0].content, own)


def _check_upscale(training: DictConfig, losses: DictConfig) -> None:
    """Refuses what has no meaning where pictures are made larger, and sizes that do not divide."""
    for key, value in (("style", training.style), ("style_layers", losses.style_layers)):
        if value:
            raise NstyleError(f"{key}: {value} with upscale={training.upscale}, which has no style")
    least = LEAST_SIDE * training.upscale
    if training.size < least or training.size % training.upscale:
        raise NstyleError(
            f"size: {training.size} is no multiple of upscale={training.upscale} from {least} on"
        )


def loss_settings(losses: DictConfig) -> Json:
    """Returns the settings of the losses, as plain containers."""
    values = deciding(losses)
    return {key: values[key] for key in LOSS_KEYS}

"""The range of every number, and what belongs together."""

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from nstyle.config.chosen import KINDS, VGG_SCORE, record, scores
from nstyle.config.errors import one_line_errors
from nstyle.config.schema import PAIR_KEYS, Config
from nstyle.errors import NstyleError, check_choice
from nstyle.files import Json
from nstyle.images import SIDES, parse_percent, parse_size
from nstyle.images.colour import COLOURS
from nstyle.networks import Pooling
from nstyle.networks.weights import RANDOM
from nstyle.records import Record, check_number
from nstyle.scores import SCORES
from nstyle.trackers import Tracker

#: Settings of recipes that some records of a group have an option for: the record's group, its
#: option, and the value with which records that have none are content.
_SHARED = {
    "content_reduction": ("content_loss", "reduction", "mean"),
    "gram_normalization": ("style_loss", "normalization", "size"),
    "style_reduction": ("style_loss", "reduction", "sum"),
}

#: The loss and its gradient's squares are float32: with larger weights they are infinite there.
LARGEST_WEIGHT = 1e12

#: Settings that are true or false.
_SWITCHES = [
    *(key for key, kind in Config.__annotations__.items() if kind is bool),
    "noise.around_mean_pixel",
]

#: Least and largest value of each number.
_RANGES = {
    **dict.fromkeys(("content_weight", "style_weight", "tv_weight"), (0, LARGEST_WEIGHT)),
    "tolerance": (0, math.inf),
    "style_falloff": (0.01, 100.0),
    "steps": (1, 1_000_000),
    **dict.fromkeys(("save_every", "checkpoint_every"), (0, math.inf)),
    **dict.fromkeys(("seed", "weights_seed"), (0, 2**32 - 1)),
    "value_range": (1e-3, 1e6),
    "init_mixture": (0.0, 1.0),
    "pyramid.levels": (1, 12),
    "pyramid.factor": (1.1, 16.0),
    "pyramid.steps": (1, 1_000_000),
    "pyramid.least": (1, math.inf),
    "pyramid.detail": (0, 2),
    "pyramid.noise": (0, 1),
    **dict.fromkeys(("noise.low", "noise.high", "noise.mean", "noise.std"), (-1e6, 1e6)),
}


def check_switch(key: str, value: Any) -> None:
    """Refuses what is neither true nor false, such as the text of another setting."""
    if not isinstance(value, bool):
        raise NstyleError(f"{key}: {value!r} is neither true nor false")


def check_bits(value: int) -> None:
    """Refuses depths of a channel that no file is written with."""
    if value not in (8, 16):
        raise NstyleError(f"bits: {value} is not allowed (8 or 16)")


def check(config: DictConfig) -> None:
    """Checks every number for its range, and what belongs together.

    Names of layers, poolings and reductions are checked by `objective.Structure`, pictures and
    weights when they are read.

    Raises:
      NstyleError: naming the setting, its value and what is allowed.
    """
    with one_line_errors():
        values = cast(Json, OmegaConf.to_container(config, throw_on_missing=True))
    for key in _SWITCHES:
        check_switch(key, _at(values, key))
    for key, (low, high) in _RANGES.items():
        check_number(key, _at(values, key), low, high)
    for key in ("content", "style"):
        _check_layer_weights(values, key)
    check_threads(values["threads"])
    _check_batch(values["batch"])
    _check_pictures(values)
    check_bits(values["bits"])
    if values["memory"] is not None:
        parse_memory(values["memory"])
    if values["tile"] is not None:
        check_number("tile", values["tile"], 2, math.inf)
    known = {**SCORES, **scores(config)}
    for objective in values["objectives"]:
        if objective == VGG_SCORE and not values["vgg_score"]:
            raise NstyleError(f"objectives: {objective} is made with vgg_score=true")
        check_choice("objectives", objective, known)
    if values["weights_seed"] and values["weights"] != RANDOM:
        raise NstyleError(
            f"weights_seed: {values['weights_seed']} would change nothing with"
            f" weights={values['weights']} (it is of weights={RANDOM})"
        )
    _check_any_weight(values)
    parse_size(values["size"])
    check_choice("size_side", values["size_side"], SIDES)
    _check_style_picture(values)
    records = {kind.group: record(config, kind) for kind in KINDS}
    record(config, Tracker)
    _check_shared(values, records)
    _check_pooling(values, cast(Pooling, records[Pooling.group]))


def _at(values: Json, key: str) -> Any:
    """Returns a setting by its name, such as `pyramid.least`."""
    return functools.reduce(lambda own, name: own[name], key.split("."), values)


def _check_pooling(values: Json, pooling: Pooling) -> None:
    scale = values["pooling_scale"]
    if scale is not None:
        check_number(
            "pooling_scale", scale, *pooling.__dataclass_fields__["scale"].metadata["range"]
        )
    if values["rescale"] and scale is not None:
        raise NstyleError(
            f"pooling_scale: {scale} with rescale=true, which sets the scale of every filter after"
            " the pools; give one of the two"
        )
    if values["rescale"] and not pooling.is_homogeneous:
        raise NstyleError(
            f"rescale: pooling={pooling.name} depends on how large features are, so that rescaled"
            " filters would make another network (rescale=false, or another pooling)"
        )


def _check_shared(values: Json, records: Mapping[str, Record]) -> None:
    """Refuses a value of a setting that the chosen record has no option for."""
    for key, (group, option, neutral) in _SHARED.items():
        chosen = records[group]
        has_it = option in {own.name for own in fields(chosen)}
        layers = values[f"{group.removesuffix('_loss')}_layers"]
        if layers and not has_it and values[key] != neutral:
            raise NstyleError(
                f"{key}: {group}={chosen.name} does not read it, {values[key]!r} would change"
                f" nothing (with it: {key}={neutral}, and another weight for that)"
            )


def _check_pictures(values: Json) -> None:
    for key in PAIR_KEYS:
        if values[key] is not None:
            raise NstyleError(
                f"{key}: names the pictures of many runs: add -m; a single run and a search need"
                " content= and style="
            )
    check_files("style", values["style"])
    check_files("style_mask", values["style_mask"], empty=(None,))
    for share in values["style_blend"] or ():
        check_number("style_blend", share, 0.0, 1e6)
    if values["style_blend"] is not None and not any(values["style_blend"]):
        raise NstyleError(f"style_blend: {values['style_blend']} has no share above 0")
    check_number("mask_softness", values["mask_softness"], 0.0, 1000.0)
    for key, given in (
        ("style_mask", values["style_mask"]),
        ("mask_softness", values["mask_softness"]),
    ):
        if given and values["content_mask"] is None:
            raise NstyleError(f"{key}: needs a content_mask, whose regions it is for")


def check_files(key: str, value: Any, empty: tuple[None, ...] = ()) -> None:
    """Refuses what is neither a file, nor None, nor a list of files and of what is `empty`."""
    several = isinstance(value, list)
    entries = value if several else [value]
    allowed = empty if several else (None,)
    if not entries or not all((isinstance(x, str) and x) or x in allowed for x in entries):
        raise NstyleError(f"{key}: {value!r} is neither a file nor a list of files")


def _check_style_picture(values: Json) -> None:
    size, rotation, colour = (values[key] for key in ("style_size", "style_rotation", "colour"))
    if size not in (None, "content") and parse_percent(size) is None:
        parse_size(size)
    check_number("style_rotation", rotation, -360.0, 360.0)
    if rotation and size == "content":
        raise NstyleError(
            f"style_rotation: {rotation:g} degrees cut the style picture, which style_size=content"
            " wants to have exactly the content's size"
        )
    check_choice("colour", colour, COLOURS)
    for key in ("content_layers", "style_layers"):
        if colour != "none" and not values[key]:
            raise NstyleError(
                f"colour: {colour} is between a photograph and a painting, and {key} is empty here"
            )


def check_threads(threads: int | None) -> None:
    """Refuses a number of threads that no process can have."""
    if threads is not None:
        check_number("threads", threads, 1, 1024)


def _check_batch(batch: Any) -> None:
    if batch in (None, "auto") or (type(batch) is int and batch >= 1):
        return
    raise NstyleError(f"batch: {batch!r} is neither a number of runs, 1 or more, nor auto nor null")


def parse_memory(text: str) -> int:
    """Returns the bytes of an amount such as `4GiB`, `1.5GB` or `800MiB`.

    Raises:
      NstyleError: it is not such an amount.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([MGT])(i?)B", text)
    if not match:
        raise NstyleError(f"memory: {text!r} is not an amount such as 4GiB, 1.5GB or 800MiB")
    number, prefix, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** (" KMGT".index(prefix)))


def _check_any_weight(values: Json) -> None:
    layers = {
        key: any(values[f"{key}_layer_weights"] or [1.0]) and bool(values[f"{key}_layers"])
        for key in ("content", "style")
    }
    if not values["tv_weight"] and not any(
        values[f"{k}_weight"] and on for k, on in layers.items()
    ):
        raise NstyleError(
            "content_weight, style_weight and tv_weight: every term's weight is 0, there is nothing"
            " to optimise"
        )


def _check_layer_weights(values: Json, key: str) -> None:
    layers, weights = values[f"{key}_layers"], values[f"{key}_layer_weights"]
    if weights is None:
        return
    if len(weights) != len(layers):
        raise NstyleError(
            f"{key}_layer_weights: {len(weights)} numbers for {len(layers)} {key}_layers"
            " (give one for each layer, or null for equal ones)"
        )
    for weight in weights:
        check_number(f"{key}_layer_weights", weight, 0.0, LARGEST_WEIGHT)

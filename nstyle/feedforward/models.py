"""Trained feed-forward networks on disk: one file of arrays with a card, and their export.

A model is a `.safetensors` file whose metadata has, as JSON under `nstyle`, the card: what it
paints, how it was trained, on what, and how it scores.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from nstyle.errors import NstyleError
from nstyle.feedforward.network import LEAST_SIDE, Architecture, NetParams, paint, parameter_shapes
from nstyle.files import Json, user_path
from nstyle.runs import stored

#: Name of the model's file in the folder of its training.
FILE = "model.safetensors"

#: What a card may say.
_CARD: Mapping[str, Any] = {
    "nstyle": str,
    "styles": list,
    "training": dict,
    "steps": int,
    "losses": dict,
    "references": list,
    "data": dict,
    "scores": dict,
    "seconds": float | int,
    "environment": dict,
    "architecture": dict,
    "sha256": str,
}


class Model(NamedTuple):
    """A trained network.

    Attributes:
      architecture: its static part.
      params: its parameters, float32.
      card: what is to be known of it, as JSON has it.
    """

    architecture: Architecture
    params: NetParams
    card: Mapping[str, Any]


def write(path: Path, model: Model) -> None:
    """Writes a model with the hash of all that it says, in one step.

    Raises:
      NstyleError: the file cannot be written.
    """
    from safetensors.numpy import save

    arrays = {
        f"{layer}.{name}": np.ascontiguousarray(array)
        for layer, pair in model.params.items()
        for name, array in pair.items()
    }
    card = {**model.card, "architecture": asdict(model.architecture)}
    told = json.dumps({**card, "sha256": _digest(card, arrays)})
    stored.write(path, save(arrays, {"nstyle": told}))


def read(path: str | Path) -> Model:
    """Reads a model.

    Args:
      path: of its file, or of the folder of its training.

    Raises:
      NstyleError: there is none, it is damaged or no model, its card says what this version does
        not know, or its arrays are not those that the card says.
    """
    from safetensors import SafetensorError, safe_open

    file = user_path("model", path)
    file = file / FILE if file.is_dir() else file
    if not file.is_file():
        unfinished = (file.parent / "settings.json").is_file()
        hint = "; its training has not ended, the same nstyle-train goes on" if unfinished else ""
        raise NstyleError(f"model: there is no {str(file)!r}{hint}")
    try:
        with safe_open(file, framework="numpy") as opened:
            card = _card(file, (opened.metadata() or {}).get("nstyle"))
            known = card.pop("sha256", None)
            architecture = _architecture(file, card["architecture"])
            arrays = _arrays(file, opened, parameter_shapes(architecture))
    except (SafetensorError, OSError) as error:
        raise NstyleError(f"model: {file} is no model of nstyle-train ({error})") from error
    if known not in (None, _digest(card, arrays)):  # models of before have none
        raise NstyleError(f"model: {file} is damaged")
    params: dict[str, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        layer, _, name = key.partition(".")
        params.setdefault(layer, {})[name] = array
    return Model(architecture, params, card)


def _digest(card: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    found = hashlib.sha256(json.dumps(card).encode())
    for name in sorted(arrays):
        found.update(name.encode())
        found.update(arrays[name].tobytes())
    return found.hexdigest()


def _card(file: Path, told: str | None) -> Json:
    """Returns the card that a file tells, its parts of the types that they have to be."""
    if told is None:
        raise NstyleError(f"model: {file} is no model of nstyle-train")
    try:
        card = json.loads(told)
    except (ValueError, RecursionError):
        card = None
    if not isinstance(card, dict) or "architecture" not in card:
        raise NstyleError(f"model: {file}: its card is damaged")
    _check_parts(f"model: {file}: card", card, _CARD)
    for style in card.get("styles", ()):
        if not isinstance(style, dict) or "file" not in style:
            raise NstyleError(f"model: {file}: card: styles: {style!r:.50} names no file")
        _check_parts(f"model: {file}: card: styles", style, {"file": str, "sha256": str})
    return card


def _architecture(file: Path, told: Mapping[str, Any]) -> Architecture:
    where = f"model: {file}: card: architecture"
    _check_parts(where, told, {part.name: part.type for part in fields(Architecture)})
    try:
        return Architecture(**told)
    except NstyleError as error:
        raise NstyleError(f"{where}: {error}") from error


def _check_parts(where: str, told: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Refuses parts that are unknown here, or of another type than they have to be."""
    for name, value in told.items():
        if name not in types:
            raise NstyleError(
                f"{where}: unknown {name!r:.50}, perhaps of a newer version of nstyle"
                f" (known: {', '.join(types)})"
            )
        if not isinstance(value, types[name]) or isinstance(value, bool):
            raise NstyleError(f"{where}: {name}: {value!r:.50} is of the wrong type")


def _arrays(
    file: Path, opened: Any, shapes: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> dict[str, np.ndarray]:
    """Returns the arrays of a file, once they are known to be those of an architecture."""
    expected = {f"{layer}.{name}": own[name] for layer, own in shapes.items() for name in own}
    found = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118
    for key, shape in expected.items():
        if key not in found or tuple(found[key].get_shape()) != shape:
            raise NstyleError(f"model: {file}: {key} is missing or not of shape {shape}")
        if (dtype := found[key].get_dtype()) != "F32":
            raise NstyleError(f"model: {file}: {key} is {dtype}, not float32")
    if more := sorted(found.keys() - expected.keys()):
        raise NstyleError(f"model: {file}: {more[0]} is of no layer of its architecture")
    return {key: opened.get_tensor(key) for key in expected}


def exported(model: Model, mixture: np.ndarray) -> jax.export.Exported:
    """Returns a model as one StableHLO program of a picture, with its parameters inside.

    The program takes float32 (1, height, width, 3) in [0, 1], heights and widths any multiples of
    `Architecture.stride` from `feedforward.LEAST_SIDE` on, and returns what `paint` does. It runs
    on CPUs and GPUs; `jax.export.deserialize` reads what its method `serialize` gives.

    Args:
      model: the network.
      mixture: the share of every style.
    """

    def program(image: jax.Array) -> jax.Array:
        shares = jnp.asarray(mixture, jnp.float32)[None]
        return paint(model.architecture, model.params, image, shares)

    stride = model.architecture.stride
    least = LEAST_SIDE // stride
    shape = jax.export.symbolic_shape(
        f"1, {stride}*height, {stride}*width, 3",
        constraints=(f"height >= {least}", f"width >= {least}"),
    )
    export = jax.export.export(jax.jit(program), platforms=("cpu", "cuda"))
    return export(jax.ShapeDtypeStruct(shape, jnp.float32))

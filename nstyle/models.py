"""Trained feed-forward networks on disk: one file of arrays with a card, and their export.

A model is a `.safetensors` file whose metadata has, as JSON under `nstyle`, the card: what it
paints, how it was trained, on what, and how it scores.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from nstyle.errors import NstyleError
from nstyle.feedforward import LEAST_SIDE, Architecture, NetParams, paint, parameter_shapes
from nstyle.files import user_path, write_atomic

#: Name of the model's file in the folder of its training.
FILE = "model.safetensors"


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
    """Writes a model, in one step.

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
    write_atomic(path, save(arrays, {"nstyle": json.dumps(card)}))


def read(path: str | Path) -> Model:
    """Reads a model.

    Args:
      path: of its file, or of the folder of its training.

    Raises:
      NstyleError: there is none, it is damaged or no model, or an array has not the shape that its
        card says.
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
            told = (opened.metadata() or {}).get("nstyle")
            arrays = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise NstyleError(f"model: {file} is no model of nstyle-train ({error})") from error
    if told is None:
        raise NstyleError(f"model: {file} is no model of nstyle-train")
    card = json.loads(told)
    architecture = Architecture(**card["architecture"])
    shapes = parameter_shapes(architecture)
    params = {
        layer: {name: _array(arrays, f"{layer}.{name}", shape, file) for name, shape in own.items()}
        for layer, own in shapes.items()
    }
    return Model(architecture, params, card)


def _array(
    arrays: Mapping[str, np.ndarray], key: str, shape: tuple[int, ...], file: Path
) -> np.ndarray:
    if key not in arrays or arrays[key].shape != shape:
        raise NstyleError(f"model: {file}: {key} is missing or not of shape {shape}")
    return arrays[key]


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

"""The command `nstyle-apply`: pictures painted by a trained network, in one pass each."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import OmegaConf

from nstyle import __version__, images, models
from nstyle.config import one_line_errors
from nstyle.data import files_in
from nstyle.errors import NstyleError, nearest, run_command
from nstyle.feedforward import check_side, paint
from nstyle.feedforward_tiles import paint_by_tiles
from nstyle.files import write_atomic
from nstyle.models import Model
from nstyle.session import keep_compiled

HELP = """\
nstyle-apply: pictures painted, or made larger, by a network of nstyle-train

    nstyle-apply MODEL pictures... out=FOLDER

  MODEL      the folder of a training, or its model.safetensors
  pictures   files and folders, painted in the order of their names
  size=null  long side of the results in pixels; null: as the pictures are (larger by the factor
             of a model that makes them larger, which has no size, mixture or steady)
  mixture=[0.3,0.7]   share of every style, where the model has several
  tile=null  edge of the tiles by which pictures are painted; null: 512 from a million pixels on
  steady=0   for the frames of a video: how much of the frame before stays, from 0 to 1, where the
             photograph changes little
  format=png png, jpg or tiff
  export=FILE.stablehlo   write the network as a program instead, read by jax.export.deserialize
"""

#: Pixels from which a picture is painted by tiles, and their edge.
_LARGE_PIXELS, _TILE = 2**20, 512

#: Change of a photograph's pixel, from 0 to 1, from which the frame before hardly counts.
_CHANGED = 0.05


@dataclass
class ApplyConfig:
    """The settings of `nstyle-apply`; see `HELP`."""

    out: str | None = None
    size: int | None = None
    mixture: list[float] | None = None
    tile: int | None = None
    steady: float = 0.0
    format: str = "png"
    export: str | None = None


def main() -> None:
    """Runs `nstyle-apply` and exits: 0 done, 2 wrong input, 130 interrupted."""
    run_command("nstyle-apply", _main)


def _main(arguments: list[str]) -> None:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return
    paths, config = _parsed(arguments)
    model = models.read(paths[0])
    _check_upscale(model, config)
    keep_compiled()
    mixture = mixture_of(model, config.mixture)
    if config.export is not None:
        program = bytes(models.exported(model, mixture).serialize())
        write_atomic(Path(config.export).expanduser(), program)
        print(config.export)
    else:
        apply(model, paths[1:], config)


def _parsed(arguments: Sequence[str]) -> tuple[list[str], ApplyConfig]:
    """Returns the paths among the arguments, and the settings."""
    names = list(ApplyConfig.__annotations__)
    settings: dict[str, Any] = {}
    paths = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or Path(argument).exists():
            paths.append(argument)
        elif key not in names:
            raise NstyleError(f"unknown setting {key!r}{nearest(key, names)} ({', '.join(names)})")
        else:
            with one_line_errors():
                is_file = key in ("out", "export")  # its name is no YAML
                settings[key] = value if is_file else OmegaConf.from_dotlist([argument])[key]
    with one_line_errors():
        config: Any = OmegaConf.to_object(OmegaConf.merge(ApplyConfig, settings))
    if not paths:
        raise NstyleError("model: none given (nstyle-apply MODEL pictures... out=FOLDER)")
    if config.export is not None and (len(paths) > 1 or config.out is not None):
        raise NstyleError("export: it takes a model alone, no pictures and no out")
    for name, low, high in (("size", 8, 2**16), ("tile", 16, 2**16), ("steady", 0.0, 1.0)):
        number = getattr(config, name)
        if number is not None and not low <= number <= high:
            raise NstyleError(f"{name}: {number} is out of range (allowed: from {low} to {high})")
    return paths, config


def _check_upscale(model: Model, config: ApplyConfig) -> None:
    """Refuses settings that have no meaning for a model that makes pictures larger."""
    factor = model.architecture.upscale
    given = [key for key in ("size", "mixture", "steady") if getattr(config, key)]
    if factor and given:
        raise NstyleError(
            f"{given[0]}: this model has no styles, it makes pictures {factor} times as large as"
            " they are"
        )


def mixture_of(model: Model, shares: Sequence[float] | None) -> np.ndarray:
    """Returns the share of every style, float32, summing to 1; None is all of the first.

    Raises:
      NstyleError: not a number for every style, one below 0, or all of them 0.
    """
    styles = model.architecture.styles
    mixture = np.array([1.0] + [0.0] * (styles - 1) if shares is None else shares, np.float32)
    if mixture.shape != (styles,) or mixture.min() < 0 or not 0 < mixture.sum() < np.inf:
        raise NstyleError(
            f"mixture: {list(shares or ())} is not a number from 0 on for each of {styles} styles"
        )
    return mixture / mixture.sum()


def apply(model: Model, paths: Iterable[str], config: ApplyConfig) -> list[Path]:
    """Paints pictures in the order of their files' names, and writes them.

    Args:
      model: the network.
      paths: files and folders.
      config: the settings.

    Returns:
      The files written; a picture in a folder that cannot be read is passed over with a note.

    Raises:
      NstyleError: one line that names what is wrong.
    """
    if config.out is None:
        raise NstyleError("out: no folder given; add out=FOLDER")
    suffix = f".{config.format}"
    images.check_format(Path(f"format{suffix}"))
    folder = Path(config.out).expanduser()
    targets = _targets([Path(path).expanduser() for path in paths], folder, suffix)
    mixture = mixture_of(model, config.mixture)
    told = {"styles": model.card.get("styles"), "mixture": mixture.tolist()}
    if model.architecture.upscale:
        told = {"upscale": model.architecture.upscale}
    metadata = json.dumps({"nstyle": __version__} | told)
    written: list[Path] = []
    before: tuple[np.ndarray, np.ndarray] | None = None
    for source, target in targets.items():
        try:
            photograph = images.load(source, config.size)
            check_side(str(source), photograph.shape)
            _check_pixels(str(source), photograph.shape, model.architecture.upscale or 1)
        except NstyleError as error:
            if len(targets) == 1:
                raise
            print(f"nstyle-apply: note: passed over: {error}", file=sys.stderr)
            continue
        painted = painted_picture(model, photograph, mixture, config.tile)
        if config.steady and before is not None and before[0].shape == photograph.shape:
            painted = steadied(painted, photograph, *before, config.steady)
        before = (photograph, painted) if config.steady else None
        images.save(target, painted, metadata)
        print(target)
        written.append(target)
    if not written:
        raise NstyleError("pictures: none could be read")
    return written


def _check_pixels(name: str, shape: tuple[int, ...], factor: int) -> None:
    """Refuses a picture whose enlargement nothing could read again."""
    width, height = factor * shape[1], factor * shape[0]
    if width * height > images.MAX_PIXELS:
        raise NstyleError(
            f"{name}: {width} x {height} pixels are too many, {factor} times as large"
            f" (at most {images.MAX_PIXELS:,})"
        )


def _targets(paths: Iterable[Path], folder: Path, suffix: str) -> dict[Path, Path]:
    """Returns where each picture is written, in order."""
    sources = [file for path in paths for file in (files_in(path) if path.is_dir() else [path])]
    if not sources:
        raise NstyleError("pictures: none given")
    targets: dict[Path, Path] = {}
    for source in sources:
        target = folder / f"{source.stem}{suffix}"
        if target in targets.values():
            raise NstyleError(f"out: two pictures would be written to {target}")
        if target.exists() and source.exists() and target.samefile(source):
            raise NstyleError(f"out: {target} is one of the pictures; choose another folder")
        targets[source] = target
    return targets


def painted_picture(
    model: Model, photograph: np.ndarray, mixture: np.ndarray, tile: int | None = None
) -> np.ndarray:
    """Returns what a network makes of a picture, float32; see `feedforward.paint`.

    Args:
      model: the network.
      photograph: float32 (height, width, 3) in [0, 1].
      mixture: the share of every style.
      tile: see `feedforward_tiles.paint_by_tiles`; None takes tiles for large pictures alone.
    """
    pixels = photograph.shape[0] * photograph.shape[1] * (model.architecture.upscale or 1) ** 2
    if tile is None and pixels < _LARGE_PIXELS:
        batch = jnp.asarray(photograph)[None]
        return np.asarray(_paint(model.architecture, model.params, batch, mixture[None])[0])
    return paint_by_tiles(model.architecture, model.params, photograph, mixture, tile or _TILE)


_paint = jax.jit(paint, static_argnums=0)


def steadied(
    painted: np.ndarray,
    photograph: np.ndarray,
    photograph_before: np.ndarray,
    painted_before: np.ndarray,
    share: float,
) -> np.ndarray:
    """Returns a frame with a share of the one before where the photograph changed little.

    Exponential smoothing without optical flow: what moves is painted afresh, what stands still
    flickers less. Pictures are float (height, width, 3) in [0, 1].

    Args:
      painted: the frame as painted.
      photograph: what it was painted from.
      photograph_before: the photograph of the frame before.
      painted_before: the frame before, as it was written.
      share: of the frame before in a pixel that did not change, from 0 to 1.
    """
    change = np.mean(np.square(photograph - photograph_before), axis=2, keepdims=True)
    kept = np.float32(share) * np.exp(-change / _CHANGED**2)
    return painted + kept * (painted_before - painted)

"""The command `nstyle-apply`: pictures painted by a trained network, in one pass each."""

import functools
import itertools
import json
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from nstyle import __version__, images
from nstyle.config import check_bits, combinations, folder_name, parse_settings
from nstyle.errors import NstyleError, check_choice
from nstyle.feedforward import models
from nstyle.feedforward.models import Model
from nstyle.feedforward.network import check_side, paint
from nstyle.feedforward.tiles import paint_by_tiles
from nstyle.files import path_exists, user_path, write_atomic
from nstyle.images.sources import SUFFIXES, folder, natural
from nstyle.process.command import LineParser, run_command
from nstyle.process.progress import LONG, watched
from nstyle.runs.resources import keep_compiled

HELP = """\
nstyle-apply: pictures painted, or made larger, by a network of nstyle-train

    nstyle-apply MODEL pictures... out=FOLDER

  MODEL      the folder of a training, or its model.safetensors
  pictures   files and folders, painted in the order of their names, 2 before 10; subfolders stay
             subfolders
  size=null  long side of the results in pixels; null: as the pictures are (larger by the factor
             of a model that makes them larger, which has no size, mixture or steady)
  mixture=[0.3,0.7]   share of every style, where the model has several
  tile=null  edge of the tiles by which pictures are painted; null: 512 from a million pixels on
  batch=1    so many neighbours of one size are painted together
  steady=0   for the frames of a video: how much of the frame before stays, from 0 to 1, where the
             photograph changes little
  format=png png, jpg or tiff
  bits=8     a channel; 16 of png and tiff
  -m steady=0,0.5 ...     every combination of values, each into a folder of its own in out
  export=FILE.stablehlo   write the network as a program instead, read by jax.export.deserialize
"""

#: Pixels from which a picture is painted by tiles, and their edge.
_LARGE_PIXELS, _TILE = 2**20, 512

#: File types of the results.
FORMATS = ("png", "jpg", "tiff")

#: Settings that name files.
_FILES = ("out", "export")

#: Least and largest values of the settings.
_RANGES = {"size": (8, 2**16), "tile": (16, 2**16), "batch": (1, 1024), "steady": (0.0, 1.0)}

#: Change of a photograph's pixel, from 0 to 1, from which the frame before hardly counts.
_CHANGED = 0.05


Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class ApplyConfig:
    """The settings of `nstyle-apply`; see `HELP`."""

    out: str | None = None
    size: int | None = None
    mixture: list[float] | None = None
    tile: int | None = None
    batch: int = 1
    steady: float = 0.0
    format: str = "png"
    bits: int = 8
    export: str | None = None


def main() -> None:
    """Runs `nstyle-apply` and exits: 0 done, 2 wrong input, 130 interrupted."""
    run_command("nstyle-apply", _main)


def _main(arguments: list[str]) -> None:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return
    parser = LineParser("nstyle-apply", add_help=False, allow_abbrev=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    options, words = parser.parse_known_args(arguments)
    failures = []
    for paths, config in _each(words) if options.multirun else [_parsed(words)]:
        try:
            _applied(paths, config)
        except NstyleError as error:
            failures.append(str(error))
    if failures:
        raise NstyleError("; ".join(dict.fromkeys(failures)))


def _each(words: Sequence[str]) -> list[tuple[list[str], ApplyConfig]]:
    """Returns paths and settings for every combination of values, each with a folder in `out`."""
    swept = [key for key in ApplyConfig.__annotations__ if key not in _FILES]
    settings = [word for word in words if word.partition("=")[0] in swept and not path_exists(word)]
    others = [word for word in words if word not in settings]
    found = []
    for differing, job in combinations(settings):
        paths, config = _parsed([*others, *job])
        if config.export is not None:
            raise NstyleError("export: every combination would write it; leave out -m")
        if config.out is not None:
            config.out = str(Path(config.out) / folder_name(differing))
        found.append((paths, config))
    if len({config.out for _, config in found}) < len(found):
        raise NstyleError("-m: a value is given twice")
    return found


def _applied(paths: Sequence[str], config: ApplyConfig) -> None:
    model = models.read(paths[0])
    _check_upscale(model, config)
    keep_compiled()
    mixture = mixture_of(model, config.mixture)
    if config.export is not None:
        if find_spec("flatbuffers") is None:
            raise NstyleError(
                "export: the package flatbuffers is missing; pip install 'nstyle[train]'"
            )
        program = bytes(models.exported(model, mixture).serialize())
        write_atomic(user_path("export", config.export), program)
        print(config.export)
    else:
        apply(model, paths[1:], config)


def _parsed(arguments: Sequence[str]) -> tuple[list[str], ApplyConfig]:
    """Returns the paths among the arguments, and the settings."""
    paths, config = parse_settings(arguments, ApplyConfig, _FILES, _RANGES)
    if not paths:
        raise NstyleError("model: none given (nstyle-apply MODEL pictures... out=FOLDER)")
    if config.export is not None and (len(paths) > 1 or config.out is not None):
        raise NstyleError("export: it takes a model alone, no pictures and no out")
    check_bits(config.bits)
    check_choice("format", config.format, FORMATS)
    images.check_format(Path(f"any.{config.format}"), config.bits)
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
            f"mixture: {list(shares or ())} is not a number from 0 on for each of {styles} styles,"
            " one of them more than 0"
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
      NstyleError: one line that names what is wrong; of files that were named and cannot be read,
        after all others are painted.
    """
    if config.out is None:
        raise NstyleError("out: no folder given; add out=FOLDER")
    suffix = f".{config.format}"
    out = user_path("out", config.out)
    if out.is_file() or out.suffix.lower() in SUFFIXES:
        raise NstyleError(f"out: {out} is no folder, which out has to be")
    named = [user_path("pictures", path) for path in paths]
    targets = _targets(named, out, suffix)
    mixture = mixture_of(model, config.mixture)
    told = {"styles": model.card.get("styles"), "mixture": mixture.tolist()}
    if model.architecture.upscale:
        told = {"upscale": model.architecture.upscale}
    metadata = json.dumps({"nstyle": __version__} | told)
    written: list[Path] = []
    failures: list[str] = []

    def passed_over(source: Path, error: NstyleError) -> None:
        if source in named:
            failures.append(str(error))
        else:
            _note(f"passed over: {error}")

    before: tuple[np.ndarray, np.ndarray] | None = None
    # One bar at a time: of the pictures where they are many, else of the layers of a large one.
    watch = iter if len(targets) >= LONG else functools.partial(watched, what="painting")
    factor = model.architecture.upscale or 1
    photographs = _photographs(targets, config, factor, passed_over)
    for group in _together(photographs, config.batch):
        together = [photograph for _, photograph in group]
        paintings = painted_pictures(model, together, mixture, config.tile, watch)
        for (target, photograph), painted in zip(group, paintings, strict=True):
            if config.steady and before is not None and before[0].shape == photograph.shape:
                painted = steadied(painted, photograph, *before, config.steady)
            before = (photograph, painted) if config.steady else None
            images.save(target, painted, metadata, bits=config.bits)
            print(target, flush=True)
            written.append(target)
    if failures or not written:
        raise NstyleError("; ".join(failures) or "pictures: none could be read")
    return written


def _note(line: str) -> None:
    print(f"nstyle-apply: note: {line}", file=sys.stderr)


def _targets(paths: Sequence[Path], out: Path, suffix: str) -> dict[Path, Path]:
    """Returns the picture from which each file is painted, in the order of the pictures' names."""
    if not paths:
        raise NstyleError("pictures: none given")
    sources: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        for source, name in _pictures(path, out):
            sources[(out / name).with_suffix(suffix)].append(source)
    targets: dict[Path, Path] = {}
    for target, found in sources.items():
        # Beside a picture, the file painted from it by this command earlier is none.
        source, *others = [own for own in found if not _is_result(own, target)] or found
        if others:
            raise NstyleError(f"out: {source} and {others[0]} would both be written to {target}")
        if _same(source, target):
            raise NstyleError(f"out: {target} is one of the pictures; choose another folder")
        targets[target] = source
    if not targets:
        raise NstyleError(f"pictures: none in {', '.join(map(str, paths))}")
    return dict(sorted(targets.items(), key=lambda item: natural(item[1].as_posix())))


def _same(source: Path, target: Path) -> bool:
    return source.exists() and target.exists() and source.samefile(target)


def _is_result(source: Path, target: Path) -> bool:
    """Says whether a picture is the file to be written, as this command wrote it; no run did."""
    return _same(source, target) and images.read_metadata(source).startswith('{"nstyle": ')


def _pictures(path: Path, out: Path) -> list[tuple[Path, str]]:
    """Returns a file, or a folder's pictures, each with its name in the folder of the results.

    Where that folder lies in the one given, it holds what an earlier command painted. Files of
    other types are noted.
    """
    if not path.is_dir():
        return [(path, path.name)]
    root, results = path.resolve(), out.resolve()
    names = folder(path).sizes
    others = Counter(
        file.suffix.lower() or file.name
        for file in path.rglob("[!.]*")
        if file.is_file() and file.relative_to(path).as_posix() not in names
    )
    if others:
        counted = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        _note(f"passed over in {path}: {counted} (painted are {', '.join(images.READ)})")
    inside = root in results.parents
    return [
        (path / name, name) for name in names if not (inside and results in (root / name).parents)
    ]


def _photographs(
    targets: Mapping[Path, Path],
    config: ApplyConfig,
    factor: int,
    passed_over: Callable[[Path, NstyleError], None],
) -> Iterator[tuple[Path, np.ndarray]]:
    """Yields what each file is painted from; tells which pictures cannot be read."""

    def read(target: Path) -> np.ndarray:
        name = str(targets[target])
        photograph = images.load(name, config.size)
        check_side(name, photograph.shape)
        _check_pixels(name, photograph.shape, factor, config.format)
        return photograph

    for target, reading in _ahead(read, watched(list(targets), "painting"), config.batch):
        try:
            photograph = reading.result()
        except NstyleError as error:
            passed_over(targets[target], error)
        else:
            yield target, photograph


def _check_pixels(name: str, shape: tuple[int, ...], factor: int, kind: str) -> None:
    """Refuses a picture whose result nothing could read again, or a JPEG file cannot hold."""
    width, height = factor * shape[1], factor * shape[0]
    if width * height > images.MAX_PIXELS:
        raise NstyleError(
            f"{name}: {width} x {height} pixels are too many, {factor} times as large"
            f" (at most {images.MAX_PIXELS:,})"
        )
    if kind == "jpg" and max(width, height) > images.MAX_JPEG_SIDE:
        raise NstyleError(
            f"{name}: {width} x {height} pixels are too many for a side of a JPEG"
            f" (at most {images.MAX_JPEG_SIDE:,}; format=png has no such limit)"
        )


def _ahead(
    function: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Iterator[tuple[Item, "Future[Result]"]]:
    """Yields items with what a function makes of them; a thread calls it so many items ahead."""
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for item in items:
            waiting.append((item, thread.submit(function, item)))
            if len(waiting) > count:
                yield waiting.popleft()
        yield from waiting


def _together(
    photographs: Iterable[tuple[Path, np.ndarray]], batch: int
) -> Iterator[list[tuple[Path, np.ndarray]]]:
    """Yields neighbours of one shape, `batch` at a time; what is left of them one at a time."""
    for _, alike in itertools.groupby(photographs, lambda photograph: photograph[1].shape):
        while group := list(itertools.islice(alike, batch)):
            yield from [group] if len(group) == batch else ([single] for single in group)


def painted_picture(
    model: Model, photograph: np.ndarray, mixture: np.ndarray, tile: int | None = None
) -> np.ndarray:
    """Returns what a network makes of a picture; see `painted_pictures`."""
    return painted_pictures(model, [photograph], mixture, tile)[0]


def painted_pictures(
    model: Model,
    photographs: Sequence[np.ndarray],
    mixture: np.ndarray,
    tile: int | None = None,
    watch: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> list[np.ndarray]:
    """Returns what a network makes of pictures, float32; see `feedforward.paint`.

    Args:
      model: the network.
      photographs: float32 (height, width, 3) in [0, 1], all of one shape.
      mixture: the share of every style.
      tile: see `feedforward_tiles.paint_by_tiles`; None takes tiles for large pictures alone.
      watch: see there.
    """
    architecture, params = model.architecture, model.params
    pixels = photographs[0][..., 0].size * (architecture.upscale or 1) ** 2
    if tile is None and pixels < _LARGE_PIXELS:
        mixtures = np.tile(mixture, (len(photographs), 1))
        return list(np.asarray(_paint(architecture, params, np.stack(photographs), mixtures)))
    return [
        paint_by_tiles(architecture, params, photograph, mixture, tile or _TILE, watch)
        for photograph in photographs
    ]


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

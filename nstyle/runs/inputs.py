"""What a run reads: pictures, regions, maps and weights, each known by the hash of its contents."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from omegaconf import DictConfig

from nstyle import images
from nstyle.config import INITS, files, record
from nstyle.errors import NstyleError, nearest
from nstyle.files import path_exists
from nstyle.images import colour
from nstyle.networks import Params, Pooling, canonical, needed, turned, weights
from nstyle.networks.rescaling import rescaled
from nstyle.objective import Structure
from nstyle.objective.regions import Guide, Labels
from nstyle.objective.stages import Noise, noise_image

#: Pictures as arrays, by the names of the settings whose files they replace.
Given = Mapping[str, np.ndarray | Sequence[np.ndarray]]


@dataclass(frozen=True)
class Picture:
    """A picture, float32 (height, width, 3) in [0, 1], known by the hash of its values."""

    digest: str
    array: np.ndarray = field(compare=False, repr=False)

    @classmethod
    def of(cls, array: np.ndarray) -> Self:
        """Returns the picture of an array."""
        return cls(hashlib.sha256(array.tobytes()).hexdigest(), array)


@dataclass(frozen=True)
class Network:
    """Weights on the device, known by the hash of their file and what was done to them."""

    sha256: str
    rescaled_for: Pooling | None
    pixels: str
    params: Params = field(compare=False, repr=False)


class Size(NamedTuple):
    """One size of a run: the shapes of the result and of the style pictures, steps, and tiles."""

    shape: tuple[int, ...]
    style_shapes: tuple[tuple[int, ...], ...]
    steps: int
    tile: int | None = None


def network_of(config: DictConfig) -> Network:
    """Returns the weights that the settings name, down to the deepest layer that they need.

    Those of the last few calls are kept.

    Raises:
      NstyleError: see `weights.load`.
    """
    return _network(
        config.weights,
        config.network,
        config.pixels,
        record(config, Pooling) if config.rescale else None,
        needed(
            tuple(
                canonical(layer, config.network)
                for layer in (*config.content_layers, *config.style_layers)
            ),
            config.network,
        ),
        config.weights_seed,
        _stamp(config.weights),
    )


def scaled_to(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a picture at another shape; itself where that is its own."""
    return picture if picture.shape == shape else images.resize(picture, shape[1], shape[0])


@functools.lru_cache(maxsize=4)
def _network(
    source: str,
    network: str,
    pixels: str | None,
    rescaled_for: Pooling | None,
    layers: tuple[str, ...],
    seed: int,
    stamp: Any,
) -> Network:
    loaded = weights.load(source, network, pixels, seed)
    params = loaded.params if rescaled_for is None else rescaled(loaded, rescaled_for)
    params = {name: params[name] for name in layers}
    return Network(loaded.sha256, rescaled_for, loaded.pixels, turned(params, network))


@functools.lru_cache(maxsize=32)
def _file(path: str, size: int | str | None, side: str, stamp: Any) -> np.ndarray:
    return images.load(path, size, side)


def _stamp(path: str) -> tuple[int, int] | None:
    """Returns what changes when a file does; None where there is no file."""
    if not path_exists(path):
        return None
    status = Path(path).expanduser().stat()
    return status.st_mtime_ns, status.st_size


def _pictures(config: DictConfig, name: str, given: Given, size: int | str) -> list[np.ndarray]:
    def scaled(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        target = images.scaled_size(width, height, size, config.size_side)
        return picture if target == (width, height) else images.resize(picture, *target)

    if name in given:
        return [scaled(picture) for picture in _given(given, name)]
    named = files(config, name)
    if not named:
        raise NstyleError(f"{name}: no picture given; add {name}=FILE")
    return [_file(file, size, config.size_side, _stamp(file)) for file in named if file]


def _given(given: Given, name: str) -> list[np.ndarray]:
    found = given[name]
    return [found] if isinstance(found, np.ndarray) else list(found)


def read_content(config: DictConfig, structure: Structure, given: Given) -> np.ndarray | None:
    """Returns the photograph at the result's size; None of a run that needs none."""
    needed = structure.content_layers or config.init in ("content", "mixture")
    if not needed and "content" not in given and config.content is None:
        return None
    return _pictures(config, "content", given, config.size)[0]


def read_styles(
    config: DictConfig,
    structure: Structure,
    given: Given,
    content: np.ndarray | None,
) -> list[np.ndarray]:
    """Returns the paintings as they were asked for: scaled and turned."""
    needed = structure.style_layers or config.init == "style"
    if not needed and "style" not in given and config.style is None:
        return []
    shape = None if content is None else content.shape
    size = style_size(config.style_size, config.size, shape)
    found = _pictures(config, "style", given, size)
    if not config.style_rotation:
        return found
    return [images.rotate(picture, config.style_rotation) for picture in found]


def style_size(
    asked: int | str | None, size: int | str, content: tuple[int, ...] | None
) -> int | str:
    """Returns the size that a style picture is read at.

    Args:
      asked: the setting `style_size`.
      size: of the result.
      content: the shape of the content picture, where there is one.

    Raises:
      NstyleError: the size is to be that of a content picture which is not there.
    """
    if asked == "content":
        if content is None:
            raise NstyleError("style_size: 'content' needs a content picture")
        return f"{content[1]}x{content[0]}"
    asked = size if asked is None else asked
    factor = images.parse_percent(asked)
    return asked if factor is None else images.times(size, factor)


def recoloured(way: str, style: np.ndarray, content: np.ndarray | None) -> np.ndarray:
    """Returns a painting as it is compared with."""
    return style if content is None else colour.recoloured(style, content, way)


def texture_shape(config: DictConfig, styles: Sequence[np.ndarray]) -> tuple[int, ...]:
    """Returns the shape of a result without a photograph, of the painting's proportions."""
    assert styles, "a structure has content layers or style layers"
    height, width = styles[0].shape[:2]
    width, height = images.scaled_size(width, height, config.size, config.size_side)
    return height, width, 3


def blend_of(config: DictConfig, guide: Guide | None, count: int) -> tuple[float, ...]:
    """Returns the share of each style target; see `Problem`."""
    shares = config.style_blend or [1.0] * count
    if len(shares) != count:
        raise NstyleError(
            f"style_blend: {len(shares)} shares for {count} style pictures (give one for each)"
        )
    if guide is not None:
        if config.style_blend is not None and len(set(guide.regions)) == len(guide.regions):
            raise NstyleError("style_blend: no region has two style pictures that it would blend")
        return guide.blend(shares)
    if config.style_blend is not None and count == 1:
        raise NstyleError("style_blend: there is one style picture, it would change nothing")
    return tuple(share / sum(shares) for share in shares)


def read_guide(
    config: DictConfig,
    given: Given,
    shape: tuple[int, ...],
    count: int,
) -> Guide | None:
    """Returns the regions of the result and of so many style pictures."""
    if config.content_mask is None:
        return None
    masks = files(config, "style_mask") or [None] * count
    if len(masks) != count:
        raise NstyleError(
            f"style_mask: {len(masks)} for {count} style pictures (give one for each; null for a"
            " whole picture)"
        )
    like = _own_shapes(config, given, "content") or [shape]
    styles = [
        None if mask is None else _labels("style_mask", mask, own)
        for mask, own in zip(masks, _own_shapes(config, given, "style"), strict=True)
    ]
    if config.style_rotation and any(labels and labels.numbers.size > 1 for labels in styles):
        raise NstyleError(
            f"style_rotation: {config.style_rotation:g} degrees turn the style picture, but not its"
            " style_mask (turn both files instead)"
        )
    content = _labels("content_mask", config.content_mask, like[0])
    named = tuple(labels and labels.named_as(content) for labels in styles)
    return Guide(content, named, config.mask_softness)


def _labels(name: str, mask: str, like: tuple[int, ...]) -> Labels:
    """Returns the labels in a file for a picture of some shape; or, of a style, its one colour."""
    colour = images.parse_colour(mask) if name == "style_mask" and not path_exists(mask) else None
    if colour is not None:
        return Labels.plain(colour)
    picture = _plane(name, mask, like)
    return Labels.of(f"{name} {mask}", picture)


def read_content_map(config: DictConfig, given: Given) -> Picture | None:
    """Returns the weights of the content term at each position; None where none are asked for."""
    if config.content_weight_map is None:
        return None
    like = _own_shapes(config, given, "content")
    if not like:
        raise NstyleError("content_weight_map: there is no content picture that it would weigh")
    picture = _plane("content_weight_map", config.content_weight_map, like[0])
    if np.ptp(picture, axis=2).max() > 0:
        raise NstyleError(f"content_weight_map: {config.content_weight_map} is not grey")
    if not picture.any():
        raise NstyleError(f"content_weight_map: {config.content_weight_map} is black everywhere")
    return Picture.of(picture[..., 0])


def _plane(name: str, path: str, like: tuple[int, ...]) -> np.ndarray:
    """Returns a picture that lies on another one, whose shape it must have up to its scale."""
    _check_proportions(name, path, like)
    return _file(path, None, "long", _stamp(path))


def _check_proportions(name: str, path: str, like: tuple[int, ...]) -> None:
    (height, width), (own_height, own_width) = like[:2], images.header(path).shape[:2]
    # Half a pixel either way, of whichever is coarser.
    if abs(height * own_width - width * own_height) > max(height, width, own_height, own_width):
        raise NstyleError(
            f"{name}: {path} is {own_width} x {own_height} pixels, not of the proportions of the"
            f" picture that it is for, {width} x {height}"
        )


def _own_shapes(config: DictConfig, given: Given, name: str) -> list[tuple[int, ...]]:
    """Returns the shapes of pictures as they were given, before they are scaled."""
    if name in given:
        return [picture.shape for picture in _given(given, name)]
    return [images.header(file).shape for file in files(config, name) if file]


class Detail(NamedTuple):
    """What a picture gets when it is scaled up; see `stages.Detail`.

    Attributes:
      share: of the first picture's detail.
      first: the first picture at the size of the result; None where its detail is not added.
      std: of the noise, in parts of white.
      seed: of the noise.
    """

    share: float
    first: Picture | None
    std: float
    seed: int


def first_pictures(
    config: DictConfig,
    structure: Structure,
    sizes: Sequence[Size],
    content: np.ndarray | None,
    styles: Sequence[np.ndarray],
) -> tuple[Picture, Detail]:
    """Returns the first picture, on the scale from 0 to 1, and what the larger sizes add to it."""
    shape, whole, seed, pyramid = sizes[0].shape, sizes[-1].shape, config.seed, config.pyramid
    settings = Noise(**config.noise)  # checked even where it is not used
    first = _first_at(config, shape, whole, content, styles)
    if first is not None:
        is_added = pyramid.detail and len(sizes) > 1
        detailed = _first_at(config, whole, whole, content, styles) if is_added else None
        return first, Detail(pyramid.detail, detailed, pyramid.noise, seed)

    image = noise_image(settings, jax.random.key(seed), shape, structure)
    noise = np.asarray(image) / np.float32(structure.value_range)
    if config.init == "mixture":
        assert content is not None
        share = np.float32(config.init_mixture)
        noise = share * noise + (1 - share) * scaled_to(content, shape)
    return Picture.of(noise), Detail(0.0, None, pyramid.noise, seed)


def _first_at(
    config: DictConfig,
    shape: tuple[int, ...],
    result: tuple[int, ...],
    content: np.ndarray | None,
    styles: Sequence[np.ndarray],
) -> Picture | None:
    """Returns the picture that a run starts from, at a shape; None where noise is part of it.

    Args:
      config: settings.
      shape: of what is returned.
      result: shape of the result, whose proportions a file must have.
      content: the photograph.
      styles: the paintings.
    """
    match config.init:
        case "noise" | "mixture":
            return None
        case "content":
            assert content is not None
            return Picture.of(scaled_to(content, shape))
        case "style":
            return Picture.of(scaled_to(styles[0], shape))
        case file if Path(file).expanduser().is_file():
            _check_proportions("init", file, result)
            return Picture.of(_file(file, f"{shape[1]}x{shape[0]}", "long", _stamp(file)))
    raise NstyleError(
        f"init: {config.init!r} is neither a picture's file nor a name{nearest(config.init, INITS)}"
        f" (names: {', '.join(INITS)})"
    )

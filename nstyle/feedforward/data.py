"""Pictures to train on: pieces of photographs, in an order that seed and step alone decide.

The batch of a step is a function of the pictures, the seed and the step, so that a training that
goes on sees what it would have seen. Files are decoded by several threads ahead of their use; one
that cannot be read is replaced by the next that can, and counted.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from nstyle import images
from nstyle.errors import NstyleError
from nstyle.feedforward.dead_leaves import dead_leaves
from nstyle.images.sources import SUFFIXES, Source, folder, source_of

#: Pictures of scikit-image, which need no download; `chelsea.png` is held out.
SHIPPED = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "clock_motion.png",
    "coffee.png",
    "color.png",
    "grass.png",
    "gravel.png",
    "horse.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)
SHIPPED_HELD_OUT = ("chelsea.png",)

#: One picture in so many is held out, at most so many.
_HELD_OUT_EVERY, _MOST_HELD_OUT = 20, 8

#: Short side of a picture before a piece is cut out, in edges of the piece: from 1 to this.
_LARGEST_SCALE = {False: 1.5, True: 2.5}

#: Share of the pieces that are dead leaves where pictures are few.
_DEAD_LEAVES = 0.4

_THREADS, _BATCHES_AHEAD = 4, 8

#: How often the files are gone through at most; without end, grain counts beyond 64 bits.
_ROUNDS = 10**9

#: Returns a picture of a name with a short side of so many pixels; None where it cannot be read.
_Reader = Callable[[str, int], np.ndarray | None]


@dataclass
class Pictures:
    """Pictures to learn from, and those held out.

    Attributes:
      name: what they are, for the model's card.
      source: where they lie.
      files: names of those to learn from.
      held_out: of those never learnt from.
      few: whether they are so few that pieces are also cut from larger scales, their colour
        channels exchanged, and some pieces are dead leaves.
      unreadable: names of those that turned out not to be readable, so far.
    """

    name: str
    source: Source
    files: Sequence[str]
    held_out: Sequence[str]
    few: bool = False
    unreadable: set[str] = field(default_factory=set)

    @property
    def digest(self) -> str:
        """A hash of names and sizes, wherever they lie; the contents may be many gigabytes."""
        sizes = self.source.sizes
        files = [(PurePosixPath(name).name, sizes[name]) for name in (*self.files, *self.held_out)]
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def pictures_of(path: str | None) -> Pictures:
    """Returns the pictures in a folder or an archive; those of scikit-image for None.

    Raises:
      NstyleError: there is no such folder or archive, it is damaged, or has too few pictures.
    """
    if path is None:
        import skimage.data

        return Pictures(
            f"{len(SHIPPED)} pictures that come with scikit-image, with their scales and colour"
            " channels varied, and dead leaves drawn at random",
            folder(Path(skimage.data.__file__).parent),
            SHIPPED,
            SHIPPED_HELD_OUT,
            few=True,
        )
    source = source_of(path)
    found = list(source.sizes)
    if len(found) < 2:
        raise NstyleError(
            f"images: {len(found)} pictures in {path!r} (at least 2; {', '.join(SUFFIXES)})"
        )
    held_out = found[::_HELD_OUT_EVERY][:_MOST_HELD_OUT]
    files = [name for name in found if name not in held_out]
    return Pictures(f"{len(files)} pictures of {source.name}", source, files, held_out)


def batches(
    pictures: Pictures, size: int, batch_size: int, seed: int, first: int = 0
) -> Iterator[np.ndarray]:
    """Yields the batches from step `first` on, without end.

    Args:
      pictures: files to learn from.
      size: edge of the pieces in pixels.
      batch_size: pieces in a batch.
      seed: decides order, pieces, mirroring and scale.
      first: the step to begin with.

    Returns:
      Arrays uint8 (batch_size, size, size, 3).

    Raises:
      NstyleError: grain is not installed, or no file can be read.
    """
    try:
        import grain
    except ImportError as error:
        raise NstyleError(
            "images: the package grain is missing; pip install 'nstyle[train]'"
        ) from error

    read = _reader(pictures, size)

    def piece(index: int, random: np.random.Generator) -> np.ndarray:
        if pictures.few and random.random() < _DEAD_LEAVES:
            made = dead_leaves(size, random)
        else:
            made = _cut(pictures, read, int(index), size, random)
        return np.round(255 * made).astype(np.uint8)

    order: Any = grain.MapDataset.source(range(len(pictures.files))).seed(seed)
    endless = order.shuffle().repeat(_ROUNDS).random_map(piece).batch(batch_size)
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_BATCHES_AHEAD)
    return iter(endless[first:].to_iter_dataset(options))


def _cut(
    pictures: Pictures, read: _Reader, index: int, size: int, random: np.random.Generator
) -> np.ndarray:
    scale = random.uniform(1.0, _LARGEST_SCALE[pictures.few])
    place, mirrored = random.uniform(size=2), random.random() < 0.5
    channels = random.permutation(3) if pictures.few else np.arange(3)
    picture = _readable(pictures, read, index, round(scale * size))
    top, left = (place * (np.array(picture.shape[:2]) - size + 1)).astype(int)
    cut = picture[top : top + size, left : left + size, channels]
    return cut[:, ::-1] if mirrored else cut


def _readable(pictures: Pictures, read: _Reader, index: int, short_side: int) -> np.ndarray:
    """Returns the first picture from `index` on that can be read."""
    for offset in range(len(pictures.files)):
        picture = read(pictures.files[(index + offset) % len(pictures.files)], short_side)
        if picture is not None:
            return picture
    raise NstyleError(f"images: none of the {len(pictures.files)} files can be read")


def _reader(pictures: Pictures, size: int) -> _Reader:
    """Returns what reads the pictures for pieces of a size; few are decoded once, and kept."""
    if not pictures.few:
        return functools.partial(_read, pictures)
    largest = round(_LARGEST_SCALE[pictures.few] * size)
    kept = functools.cache(lambda name: _read(pictures, name, largest))

    def scaled(name: str, short_side: int) -> np.ndarray | None:
        picture = kept(name)
        if picture is None:
            return None
        height, width = picture.shape[:2]
        return images.resize(picture, *images.scaled_size(width, height, short_side, "short"))

    return scaled


def _read(pictures: Pictures, name: str, short_side: int) -> np.ndarray | None:
    """Returns a picture, or None, and counts it, where it cannot be read."""
    try:
        with pictures.source.open(name) as file:
            return images.decode(file, name, short_side, "short")
    except (NstyleError, OSError):
        pictures.unreadable.add(name)
        return None


def held_out(pictures: Pictures, size: int) -> np.ndarray:
    """Returns the middle squares of the pictures held out, float32 (n, size, size, 3).

    Where none can be read, the first of the others that can takes their place.

    Raises:
      NstyleError: no picture can be read at all.
    """
    squares = [_square(pictures, name, size) for name in pictures.held_out]
    found = [square for square in squares if square is not None]
    if found:
        return np.stack(found)
    for name in pictures.files:
        square = _square(pictures, name, size)
        if square is not None:
            pictures.held_out = [*pictures.held_out, name]
            pictures.files = [other for other in pictures.files if other != name]
            return square[None]
    raise NstyleError(f"images: none of the {len(squares) + len(pictures.files)} can be read")


def _square(pictures: Pictures, name: str, size: int) -> np.ndarray | None:
    """Returns the middle square of a picture; None where it cannot be read."""
    picture = _read(pictures, name, size)
    if picture is None:
        return None
    top, left = ((length - size) // 2 for length in picture.shape[:2])
    return picture[top : top + size, left : left + size]

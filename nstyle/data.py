"""Pictures to train on: pieces of photographs, in an order that seed and step alone decide.

The batch of a step is a function of the pictures, the seed and the step, so that a training that
goes on sees what it would have seen. Files are decoded by several threads ahead of their use; one
that cannot be read is replaced by the next that can, and counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nstyle import images
from nstyle.errors import NstyleError

#: File types that count as pictures in a folder.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")

#: Photographs of scikit-image, which need no download; `chelsea.png` is held out.
SHIPPED = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
SHIPPED_HELD_OUT = ("chelsea.png",)

#: Of a folder one picture in so many is held out, at most so many.
_HELD_OUT_EVERY, _MOST_HELD_OUT = 20, 8

#: Short side of a picture before a piece is cut out, in edges of the piece: from 1 to this.
_LARGEST_SCALE = {False: 1.5, True: 2.5}

_THREADS, _BATCHES_AHEAD = 4, 8

#: How often the files are gone through at most; without end, grain counts beyond 64 bits.
_ROUNDS = 10**9


@dataclass
class Pictures:
    """Files to learn from, and those held out.

    Attributes:
      name: what they are, for the model's card.
      files: to learn from.
      held_out: never learnt from.
      few: whether they are so few that pieces are also cut from larger scales, and their colour
        channels exchanged.
      unreadable: files that turned out not to be readable, so far.
    """

    name: str
    files: list[Path]
    held_out: list[Path]
    few: bool
    unreadable: set[Path] = field(default_factory=set)


def pictures_of(folder: str | None) -> Pictures:
    """Returns the pictures in a folder and its subfolders; those of scikit-image for None.

    Raises:
      NstyleError: there is no such folder, or too few pictures in it.
    """
    if folder is None:
        import skimage.data

        source = Path(skimage.data.__file__).parent
        return Pictures(
            f"{len(SHIPPED)} photographs that come with scikit-image, with their scales and colour"
            " channels varied",
            [source / name for name in SHIPPED],
            [source / name for name in SHIPPED_HELD_OUT],
            few=True,
        )
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise NstyleError(f"images: there is no folder {folder!r}")
    found = files_in(root)
    if len(found) < 2:
        raise NstyleError(
            f"images: {len(found)} pictures in {folder!r} (at least 2; {', '.join(SUFFIXES)})"
        )
    held_out = found[::_HELD_OUT_EVERY][:_MOST_HELD_OUT]
    files = [path for path in found if path not in held_out]
    return Pictures(f"{len(files)} pictures of the folder {root.name!r}", files, held_out, False)


def files_in(folder: Path) -> list[Path]:
    """Returns the pictures in a folder and its subfolders, by their names, in order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


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

    def piece(index: int, random: np.random.Generator) -> np.ndarray:
        return _piece(pictures, int(index), size, random)

    order: Any = grain.MapDataset.source(range(len(pictures.files))).seed(seed)
    endless = order.shuffle().repeat(_ROUNDS).random_map(piece).batch(batch_size)
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_BATCHES_AHEAD)
    return iter(endless[first:].to_iter_dataset(options))


def _piece(pictures: Pictures, index: int, size: int, random: np.random.Generator) -> np.ndarray:
    scale = random.uniform(1.0, _LARGEST_SCALE[pictures.few])
    place, mirrored = random.uniform(size=2), random.random() < 0.5
    channels = random.permutation(3) if pictures.few else np.arange(3)
    picture = _readable(pictures, index, round(scale * size))
    top, left = (place * (np.array(picture.shape[:2]) - size + 1)).astype(int)
    cut = picture[top : top + size, left : left + size, channels]
    return np.round(255 * (cut[:, ::-1] if mirrored else cut)).astype(np.uint8)


def _readable(pictures: Pictures, index: int, short_side: int) -> np.ndarray:
    """Returns the first picture from `index` on that can be read."""
    for offset in range(len(pictures.files)):
        path = pictures.files[(index + offset) % len(pictures.files)]
        try:
            return images.load(path, short_side, "short")
        except NstyleError:
            pictures.unreadable.add(path)
    raise NstyleError(f"images: none of the {len(pictures.files)} files can be read")


def held_out(pictures: Pictures, size: int) -> np.ndarray:
    """Returns the middle squares of the pictures held out, float32 (n, size, size, 3).

    Raises:
      NstyleError: none can be read.
    """
    squares = []
    for path in pictures.held_out:
        try:
            picture = images.load(path, size, "short")
        except NstyleError:
            pictures.unreadable.add(path)
            continue
        top, left = ((length - size) // 2 for length in picture.shape[:2])
        squares.append(picture[top : top + size, left : left + size])
    if not squares:
        raise NstyleError(f"images: none of {', '.join(map(str, pictures.held_out))} can be read")
    return np.stack(squares)

"""Pairs of a photograph and a painting: the standard set, lists, files and folders of them.

The standard set needs no download: photographs that come with scikit-image, each with each painting
that comes with this project. Its halves have every photograph and every painting alike often, so
that what is chosen by one can be confirmed by the other.
"""

import csv
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nstyle.errors import NstyleError, nearest
from nstyle.files import user_path
from nstyle.sources import SUFFIXES

#: Files of a photograph and a painting.
Pair = tuple[str, str]

#: A portrait, an animal, a still life, a night, a machine, and a grey picture with much sky.
PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "camera.png",
)

PAINTINGS = (
    "swirls",
    "mosaic",
    "blossom",
    "hatching",
    "watercolour",
    "points",
    "woodcut",
    "impasto",
)


def paintings() -> dict[str, Path]:
    """Returns this project's own paintings: in the installed package, or in a checkout."""
    package = Path(__file__).resolve().parent
    folders = (package / "styles", package.parent / "experiments" / "demo" / "styles")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.jpg"))}


def _standard(chosen: Callable[[int, int], bool]) -> list[Pair]:
    import skimage.data

    photographs, styles = Path(skimage.data.__file__).parent, paintings()
    return [
        (str(photographs / photograph), str(styles[painting]))
        for (i, photograph), (j, painting) in itertools.product(
            enumerate(PHOTOGRAPHS), enumerate(PAINTINGS)
        )
        if chosen(i, j)
    ]


#: Parts of the standard set, by the numbers of photograph and painting.
STANDARD: dict[str, Callable[[int, int], bool]] = {
    "standard": lambda i, j: True,
    "calibration": lambda i, j: (i + j) % 2 == 0,
    "test": lambda i, j: (i + j) % 2 == 1,
    "few": lambda i, j: i == j,
}


def pairs_of(pairs: Any, contents: str | None, styles: str | None) -> list[Pair]:
    """Returns the pairs that the settings `pairs`, or `contents` and `styles`, name.

    Args:
      pairs: a key of `STANDARD`, a file with a photograph and a painting on each line, or a list of
        these two; None where there are folders.
      contents: a folder of photographs, each of which is paired with each painting.
      styles: a folder of paintings.

    Raises:
      NstyleError: one line that names what is wrong.
    """
    if pairs is not None and (contents, styles) != (None, None):
        raise NstyleError("pairs: give either pairs, or contents and styles")
    if pairs is None:
        if contents is None or styles is None:
            given, lacking = ("styles", "contents") if contents is None else ("contents", "styles")
            raise NstyleError(f"{given}: needs {lacking}=FOLDER beside it")
        return list(itertools.product(_pictures("contents", contents), _pictures("styles", styles)))
    if isinstance(pairs, str):
        return _standard(STANDARD[pairs]) if pairs in STANDARD else _read(pairs)
    return [_checked(pair, pair) for pair in pairs]


def _pictures(setting: str, folder: str | None) -> list[str]:
    """Returns the pictures of a folder, 2.jpg before 10.jpg."""
    place = user_path(setting, folder or "")
    if not place.is_dir():
        raise NstyleError(f"{setting}: there is no folder {folder!r}")
    found = [
        path
        for path in place.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    if not found:
        raise NstyleError(f"{setting}: no picture in {folder!r} ({', '.join(SUFFIXES)})")
    return [str(path) for path in sorted(found, key=_natural)]


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    parts = re.findall(r"\d+|\D+", path.name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _read(file: str) -> list[Pair]:
    """Returns the pairs of a CSV file; their paths are relative to its folder."""
    place = user_path("pairs", file)
    if not place.is_file():
        raise NstyleError(
            f"pairs: {file!r} is neither a file nor a name{nearest(file, STANDARD)}"
            f" (names: {', '.join(STANDARD)})"
        )
    try:
        rows = list(csv.reader(place.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise NstyleError(f"pairs: {file} cannot be read ({error})") from error
    rows = [row for row in rows if row and row != ["content", "style"]]
    if not rows:
        raise NstyleError(f"pairs: {file} names no pairs (content,style on each line)")
    named = [_checked([name.strip() for name in row], ",".join(row)) for row in rows]
    return [(str(place.parent / content), str(place.parent / style)) for content, style in named]


def _checked(pair: Any, told: Any) -> Pair:
    if isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) and x for x in pair):
        return pair[0], pair[1]
    raise NstyleError(f"pairs: {told!r} is not a photograph and a painting")

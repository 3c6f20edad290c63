"""Pairs of a photograph and a painting that a sweep runs over: a standard set, or one's own."""

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nstyle.errors import NstyleError, nearest
from nstyle.files import user_path
from nstyle.images.sources import SUFFIXES, natural

#: Photographs of the standard set, which come with scikit-image. The last is grey, as no sixth one
#: in colour shows a scene: the others are stars, a retina and what a microscope sees.
PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "camera.png",
)

#: Paintings of the standard set, by their names in `paintings`. New ones go to the end, so that
#: every pair stays in the half where it is.
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

#: What `pairs` can name: (number of a photograph, of a painting) -> whether the pair belongs to it.
#: What is chosen on `calibration` is judged on `test`: each has half of every photograph's and of
#: every painting's pairs, like the black and white fields of a chessboard.
STANDARD: dict[str, Callable[[int, int], bool]] = {
    "standard": lambda photograph, painting: True,
    "calibration": lambda photograph, painting: (photograph + painting) % 2 == 0,
    "test": lambda photograph, painting: (photograph + painting) % 2 == 1,
    "twelve": lambda photograph, painting: (painting - photograph) % len(PAINTINGS) in (0, 3),
    "few": lambda photograph, painting: painting == photograph % len(PAINTINGS),
}

_HEADER = ["content", "style"]


class Pair(NamedTuple):
    """The files of a photograph and a painting."""

    content: str
    style: str


def paintings() -> dict[str, Path]:
    """Returns this project's own paintings: in the installed package, or in a checkout."""
    package = Path(__file__).resolve().parents[1]
    folders = (package / "styles", package.parent / "experiments" / "demo" / "styles")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.jpg"))}


def standard(part: str = "standard") -> list[Pair]:
    """Returns the standard set, each photograph with each painting, or a part of it.

    Args:
      part: a key of `STANDARD`.
    """
    import skimage.data

    folder, files = Path(skimage.data.__file__).parent, paintings()
    return [
        Pair(str(folder / photograph), str(files[painting]))
        for i, photograph in enumerate(PHOTOGRAPHS)
        for j, painting in enumerate(PAINTINGS)
        if STANDARD[part](i, j)
    ]


def pairs_of(pairs: Any, contents: str | None, styles: str | None) -> list[Pair]:
    """Returns the pairs that three settings name, each once; none where all three are None.

    Args:
      pairs: a key of `STANDARD`; or a text file with a line `content,style` for each pair, names
        relative to the file's folder, in quotes where they have a comma; or a list of pairs.
      contents: a folder of photographs, each of which goes with each painting.
      styles: the folder of those paintings.

    Raises:
      NstyleError: naming the setting or the line of the file that is wrong.
    """
    if (contents is None) != (styles is None):
        key, other = ("contents", "styles") if styles is None else ("styles", "contents")
        raise NstyleError(
            f"{key}: needs {other} too: each picture of one goes with each of the other"
        )
    if contents is not None and styles is not None:
        if pairs is not None:
            raise NstyleError("pairs: beside contents and styles, which name pairs too; give one")
        paintings = _pictures("styles", styles)
        found = [Pair(c, s) for c in _pictures("contents", contents) for s in paintings]
    elif pairs is None:
        return []
    elif isinstance(pairs, str):
        found = standard(pairs) if pairs in STANDARD else _read(pairs)
    elif isinstance(pairs, list):
        found = [_pair("pairs", entry, Path()) for entry in pairs]
    else:
        raise NstyleError(f"pairs: {pairs!r} is no set, file or list of pairs")
    if not found:
        raise NstyleError(f"pairs: there are none in {pairs!r}")
    return list(dict.fromkeys(found))


def _read(name: str) -> list[Pair]:
    path = user_path("pairs", name)
    if not path.is_file():
        raise NstyleError(
            f"pairs: {name!r} is neither a file nor a set{nearest(name, STANDARD)}"
            f" (sets: {', '.join(STANDARD)})"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, skipinitialspace=True, strict=True)
            rows = [(lines.line_num, [name.strip() for name in line]) for line in lines]
    except (OSError, UnicodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise NstyleError(f"pairs: {name} is no readable file of pairs ({reason})") from error
    return [
        _pair(f"pairs: {name}, line {number}", row, path.parent)
        for number, row in rows
        if any(row) and row != _HEADER
    ]


def _pair(where: str, entry: Any, folder: Path) -> Pair:
    """Returns a pair whose files are named relative to a folder; `where` is for the errors."""
    if not _is_pair(entry):
        raise NstyleError(
            f"{where}: {entry} is not a photograph and a painting (quote a name that has a comma)"
        )
    files = [user_path(where, file if file.startswith("~") else folder / file) for file in entry]
    for file in files:
        if not file.is_file():
            raise NstyleError(f"{where}: there is no picture {str(file)!r}")
    return Pair(*map(str, files))


def _is_pair(entry: Any) -> bool:
    if not isinstance(entry, Sequence) or isinstance(entry, str):
        return False
    return len(entry) == 2 and all(isinstance(file, str) and file for file in entry)


def _pictures(key: str, name: str) -> list[str]:
    """Returns the pictures in a folder, hidden ones and subfolders aside."""
    folder = user_path(key, name)
    if not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        raise NstyleError(f"{key}: there is no folder {name!r} that can be read")
    found = pictures_among(folder.iterdir())
    if not found:
        raise NstyleError(f"{key}: the folder {name!r} has no pictures ({', '.join(SUFFIXES)})")
    return found


def pictures_among(paths: Iterable[Path]) -> list[str]:
    """Returns the files of pictures, hidden ones aside, in order: `2.jpg` before `10.jpg`."""
    seen = (path for path in paths if not path.name.startswith("."))
    found = [path for path in seen if path.suffix.lower() in SUFFIXES and path.is_file()]
    return [str(path) for path in sorted(sorted(found), key=lambda path: natural(str(path)))]

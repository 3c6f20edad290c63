"""Where many pictures lie: a folder or an archive, read alike and by several threads at once."""

import io
import lzma
import re
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from nstyle.errors import NstyleError
from nstyle.files import user_path
from nstyle.images import READ

#: File types that count as pictures.
SUFFIXES = tuple(suffix for suffixes in READ.values() for suffix in suffixes)

#: What reading a damaged archive raises, or one of a kind that Python does not read.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
)

#: Ends of archives that are compressed as a whole: a picture is found by reading all before it.
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


class Source(NamedTuple):
    """Pictures by their names.

    Attributes:
      name: what they lie in, such as `the folder 'photos'`.
      sizes: name of every picture, with `/` between folders -> its bytes; in the order of names.
      open: opens the picture of a name; any number of threads may call it. It raises `OSError` or
        `NstyleError` where the picture cannot be read.
    """

    name: str
    sizes: Mapping[str, int]
    open: Callable[[str], BinaryIO]


def source_of(path: str | Path) -> Source:
    """Returns the pictures in a folder or an archive, those of subfolders included.

    Nothing is unpacked.

    Args:
      path: a folder, or a .zip or .tar archive.

    Raises:
      NstyleError: it is missing, damaged, protected by a password, or of another kind.
    """
    place = user_path("images", path)
    if place.is_dir():
        return folder(place)
    if not place.is_file():
        raise NstyleError(f"images: there is no folder or archive {str(path)!r}")
    if place.name.lower().endswith(_COMPRESSED):
        raise NstyleError(
            f"images: {place.name} is compressed as a whole, so that its pictures cannot be read in"
            " any order; unpack it, or make it a .tar or .zip"
        )
    archives = {".zip": _zip, ".tar": _tar}
    if place.suffix.lower() not in archives:
        raise NstyleError(
            f"images: {str(path)!r} is neither a folder nor an archive ({', '.join(archives)})"
        )
    try:
        return archives[place.suffix.lower()](place)
    except _DAMAGED as error:
        raise NstyleError(f"images: {place.name} is damaged or no archive ({error})") from error
    except OSError as error:
        raise NstyleError(f"images: {place.name}: {error.strerror or error}") from error


def folder(root: Path) -> Source:
    """Returns the pictures in a folder and its subfolders."""
    names = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    sizes = {name: (root / name).stat().st_size for name in _pictures(names)}
    return Source(f"the folder {root.name!r}", sizes, lambda name: (root / name).open("rb"))


def natural(name: str) -> list[list[str | int]]:
    """Returns a key that sorts names as people count: `2.jpg` before `10.jpg`."""
    return [
        [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", folder)]
        for folder in name.lower().split("/")
    ]


def _zip(path: Path) -> Source:
    archive, alone = zipfile.ZipFile(path), threading.Lock()
    members = {name: archive.getinfo(name) for name in _pictures(archive.namelist())}
    if locked := next((name for name in members if members[name].flag_bits & 1), None):
        raise NstyleError(f"images: {path.name}: {locked} is protected by a password; unpack it")

    def opened(name: str) -> BinaryIO:
        try:
            with alone:
                return io.BytesIO(archive.read(members[name]))
        except _DAMAGED as error:
            raise NstyleError(f"picture: {name} in {path.name}: damaged ({error})") from error

    sizes = {name: member.file_size for name, member in members.items()}
    return Source(f"the archive {path.name!r}", sizes, opened)


def _tar(path: Path) -> Source:
    with tarfile.open(path, "r:") as archive:
        files = {member.name: member for member in archive if member.isfile()}
    members = {name: files[name] for name in _pictures(files) if not files[name].issparse()}

    def opened(name: str) -> BinaryIO:
        with path.open("rb") as file:
            file.seek(members[name].offset_data)
            return io.BytesIO(file.read(members[name].size))

    sizes = {name: member.size for name, member in members.items()}
    return Source(f"the archive {path.name!r}", sizes, opened)


def _pictures(names: Iterable[str]) -> list[str]:
    """Returns the names that are pictures', in order; hidden ones are what Macs add to archives."""
    paths = (name.split("/") for name in names)
    found = (
        parts
        for parts in paths
        if not parts[-1].startswith(".") and parts[-1].lower().endswith(SUFFIXES)
    )
    return ["/".join(parts) for parts in sorted(found)]

"""The user's cache folder, and writing files so that a reader never sees half of one."""

import os
import tempfile
from collections.abc import Callable
from io import BufferedRandom
from pathlib import Path
from typing import Any, TypeAlias

from nstyle.errors import NstyleError

#: An object of a JSON or YAML file, as a dictionary of plain values, lists and dictionaries.
Json: TypeAlias = dict[str, Any]


def cache_dir() -> Path:
    """Returns the user's cache folder; the environment variable `NSTYLE_CACHE` overrides it."""
    import pooch

    return Path(os.environ.get("NSTYLE_CACHE") or pooch.os_cache("nstyle"))


def path_exists(path: str) -> bool:
    """Says whether a file or folder is there; no for a name that no file can have."""
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError):  # too long, or the home of nobody
        return False


def shown(name: str) -> str:
    """Returns a file's name as text: bytes of it that are not UTF-8 as escapes."""
    return name.encode(errors="backslashreplace").decode()


def user_path(setting: str, path: str | Path) -> Path:
    """Returns the path that a setting names, `~` being the user's home.

    Raises:
      NstyleError: it is in the home of nobody, or where this user may not look.
    """
    try:
        place = Path(path).expanduser()
        place.exists()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NstyleError(f"{setting}: {path}: {reason}") from error
    return place


def write_atomic(path: Path, content: bytes | Callable[[BufferedRandom], object]) -> None:
    """Writes `content` beside `path` and moves it there in one step; makes the folder if need be.

    Args:
      path: the file.
      content: all of it, or what writes it to an open file, which can be read too, where that is
        too much for memory.

    Raises:
      NstyleError: the folder or the file cannot be written; `path` is then as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    except OSError as error:
        raise NstyleError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "w+b") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise NstyleError(f"cannot write {path}: {error.strerror}") from error
        raise


def remove_half_written(folder: Path) -> None:
    """Removes what a killed process left beside the files that it was writing."""
    for path in folder.glob(".*-*"):
        if path.is_file():
            path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""Files that this program wrote and reads again: whole and its own, or an error that names them.

The hash of what was written is kept with it. A JSON file ends with its hash, a file of arrays
begins with it, and those of pictures and tables are in the JSON file of their run. So what was cut
or changed, or lies in the place of another, is a `DamagedError`, and what passes needs no other
check.

A hash is of the content and of its `kind`, which says what it is of; a new layout is a new kind.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from functools import partial
from io import BufferedRandom
from pathlib import Path
from typing import Any

import numpy as np

from nstyle.errors import NstyleError
from nstyle.files import Json, write_atomic

_HASH = "sha256"


class DamagedError(NstyleError):
    """A file is not as this program wrote it; what to do without it is for the caller to say."""


def write(path: Path, content: bytes) -> None:
    """Writes a file, in one step."""
    make_way(path)
    write_atomic(path, content)


def write_json(path: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Writes a mapping as indented JSON that ends with its hash, in one step."""
    hashed = {**content, _HASH: _hash(kind, content)}
    write(path, (json.dumps(hashed, indent=2) + "\n").encode())


def read_json(path: Path, kind: str) -> Json | None:
    """Returns what `write_json` wrote; None where there is no file.

    Raises:
      DamagedError: there is something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.pop(_HASH, None) != _hash(kind, content):
        raise _damaged(path)
    return content


def write_arrays(path: Path, kind: str, told: Any, arrays: Iterable[Any]) -> None:
    """Writes arrays and what is told of them, as JSON has it, after their hash, in one step."""

    def hashed(file: BufferedRandom) -> None:
        start = file.write(hashlib.sha256().digest())  # until it is known
        np.savez(file, *arrays, told=json.dumps(told))  # one by one: they may fill the memory
        file.seek(start)
        known = hashlib.file_digest(file, partial(hashlib.sha256, kind.encode()))
        file.seek(0)
        file.write(known.digest())

    make_way(path)
    write_atomic(path, hashed)


def read_arrays(path: Path, kind: str) -> tuple[Any, list[np.ndarray]] | None:
    """Returns what is told and the arrays of `write_arrays`; None where there is no file.

    Raises:
      DamagedError: there is something else.
    """
    try:
        with path.open("rb") as file:
            known = file.read(hashlib.sha256().digest_size)
            found = hashlib.file_digest(file, partial(hashlib.sha256, kind.encode()))
            if found.digest() != known:
                raise _damaged(path)
            file.seek(len(known))
            with np.load(file) as content:
                arrays = [content[f"arr_{i}"] for i in range(len(content) - 1)]
                return json.loads(str(content["told"])), arrays
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file.

    Raises:
      DamagedError: it is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def check(folder: Path, digests: Mapping[str, str]) -> None:
    """Checks files in a folder, known by their names and hashes.

    Raises:
      DamagedError: one is missing, or is another.
    """
    for name, known in digests.items():
        if digest(folder / name) != known:
            raise DamagedError(f"{folder / name} is not what was written")


def make_way(path: Path) -> None:
    """Moves a folder aside that lies where a file goes: it is not ours to delete."""
    if path.is_dir():
        move_aside(path)


def move_aside(path: Path) -> None:
    """Gives something that is in the way a name that nothing has.

    Raises:
      NstyleError: it cannot be renamed.
    """
    try:
        path.rename(path.with_name(f"{path.name}.{secrets.token_hex(4)}"))
    except OSError as error:
        raise NstyleError(f"cannot move {path}: {error.strerror}") from error


def _hash(kind: str, content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([kind, content]).encode()).hexdigest()


def _damaged(path: Path) -> DamagedError:
    return DamagedError(f"{path} is damaged, or of another version of nstyle")


def _unreadable(path: Path, error: OSError) -> DamagedError:
    return DamagedError(f"{path}: {error.strerror}")

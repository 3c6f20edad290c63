"""The run store: a folder for each run, named by a hash of all that decides its result.

runs/<content>-<style>-<hash>/
    config.yaml       the resolved settings
    trace.csv         every term at every step, written as the run goes
    step_000050.png   pictures on the way, on request
    checkpoint        where an unfinished run goes on; gone when it is done
    result.png        the picture of the lowest loss
    result.json       how it ended, its losses, hashes of inputs and results, versions, command
    scores.json       how the picture scores by a network that was not optimised

`result.json` is written last and in one step: a run without it, or with an interrupted one, is not
finished. It has the hashes of the other files, see `stored`. A run's folder is locked while a
process works on it.
"""

import csv
import functools
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import filelock
import jax

from nstyle.errors import NstyleError
from nstyle.files import Json, remove_half_written
from nstyle.runs import stored
from nstyle.runs.code import code_of, code_version
from nstyle.solvers import State

Row = dict[str, float | int]

_PACKAGES = ("nstyle", "jax", "jaxlib", "flax", "optax", "jaxopt", "numpy", "pillow")

#: What `nstyle inspect` adds to a run.
INSPECTION = ("inspection.csv", "inspection.png", "sensitivity.csv")

#: What a finished run has beside its `result.json`.
FILES = ("config.yaml", "trace.csv", "result.png")

#: The result in 16 bits a channel, of a run that asks for it.
DEEP = "result.tiff"


def run_id(
    deciding: Mapping[str, Any], digests: Mapping[str, str], objects: Iterable[object] = ()
) -> str:
    """Returns a hash of everything that decides a result, 12 hexadecimal digits.

    Args:
      deciding: settings without those that only name things or say where results go.
      digests: hashes of the inputs' contents, by name.
      objects: losses and the like that settings name, whose code may be a user's own.
    """
    code = [code_version(), *code_of(objects)]
    text = json.dumps([deciding, digests, _versions(), code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def run_folder(runs_dir: Path, stems: Iterable[str], identity: str) -> Path:
    """Returns the folder of a run: the one there with this hash, or else a new name.

    A new name is `<content>-<style>-<hash>`, plain characters only.
    """
    for found in sorted(runs_dir.glob(f"*-{identity}")):
        if found.is_dir():
            return found
    readable = [re.sub(r"[^A-Za-z0-9_]+", "_", stem)[:40] for stem in stems]
    return runs_dir / "-".join([*readable, identity])


def environment() -> Json:
    """Returns versions and device, for the record."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
        "threads": int(os.environ.get("PJRT_NPROC") or _cores()),
        "code": code_version(),
    } | _versions()


def _cores() -> int:
    """Returns how many cores this process may use; how many there are where a system won't say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def result(folder: Path) -> Json | None:
    """Returns what `result.json` says of a run that ended by itself; None of any other.

    Raises:
      DamagedError: it is not as it was written.
    """
    found = stored.read_json(folder / "result.json", "result")
    return None if found is None or found["stop"] == "interrupted" else found


def finished(folder: Path) -> Json | None:
    """Returns what `result` does; None where it is damaged too."""
    with suppress(stored.DamagedError):
        return result(folder)
    return None


def scores(folder: Path, result: Mapping[str, Any]) -> Json | None:
    """Returns what `scores.json` says of the picture of a result; None where it says nothing of it.

    Raises:
      DamagedError: it is not as it was written.
    """
    found = stored.read_json(folder / "scores.json", "scores")
    own = found is not None and found["picture"] == result["files"]["result.png"]
    return found if own else None


def identity(folder: Path) -> str:
    """Returns the hash in the name of a run's folder."""
    return folder.name.rpartition("-")[2]


@contextmanager
def locked(folder: Path, when_busy: str) -> Iterator[None]:
    """Holds a run for this process; where another has it, prints `when_busy` and waits.

    The lock is by the hash in the folder's name, and beside the folder. What a killed process left
    half written is removed.

    Raises:
      NstyleError: the folder cannot be written.
    """
    with held(folder.parent / ".locks" / identity(folder), when_busy):
        remove_half_written(folder)
        yield


@contextmanager
def held(lock: Path, when_busy: str) -> Iterator[None]:
    """Holds a lock for this process; where another has it, prints `when_busy` and waits.

    The system lets go of it when a process ends, however it ends.

    Raises:
      NstyleError: the lock's file cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held_lock = filelock.FileLock(lock)
        try:
            held_lock.acquire(blocking=False)
        except filelock.Timeout:
            print(when_busy, file=sys.stderr, flush=True)
            held_lock.acquire()
    except OSError as error:
        raise NstyleError(f"cannot write {lock.parent}: {error.strerror}") from error
    try:
        yield
    finally:
        held_lock.release()


class Checkpoint(NamedTuple):
    """Where a run stands, and how it came there.

    Attributes:
      state: what it goes on from.
      rows: its trace up to there.
      seconds: how long it took.
      batch: with how many runs it was optimised together, itself included, at most.
    """

    state: State
    rows: list[Row]
    seconds: float
    batch: int = 1

    def write(self, path: Path) -> None:
        """Writes the checkpoint, in one step."""
        told = [self.state.stage, self.rows, self.seconds, self.batch]
        stored.write_arrays(path, _kind(path), told, jax.tree.leaves(self.state))

    @classmethod
    def read(cls, path: Path, blank: Callable[[int], State]) -> Self | None:
        """Returns the checkpoint at `path`, or None where there is none.

        Args:
          path: the file.
          blank: gives for the number of a stage a state of its structure; see
            `solvers.blank_state`.

        Raises:
          DamagedError: it is not as it was written, or of another run.
        """
        found = stored.read_arrays(path, _kind(path))
        if found is None:
            return None
        (stage, rows, seconds, batch), leaves = found
        like, structure = jax.tree.flatten(blank(stage))
        numbers = [
            leaf.item() if isinstance(known, int | float) else leaf
            for known, leaf in zip(like, leaves, strict=True)
        ]
        return cls(jax.tree.unflatten(structure, numbers), rows, seconds, batch)


def _kind(checkpoint: Path) -> str:
    return f"state {identity(checkpoint.parent)}"


class Trace:
    """A CSV table that is on disk up to the last finished row, whatever happens next.

    Args:
      path: the file; what is there is replaced, in one step.
      rows: rows of an earlier process to begin with.

    Raises:
      NstyleError: the file cannot be written, here or by `append`.
    """

    def __init__(self, path: Path, rows: Iterable[Row] = ()) -> None:
        self._path = path
        self.rows = list(rows)
        before = io.StringIO(newline="")
        if self.rows:
            writer = csv.DictWriter(before, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
        stored.write(path, before.getvalue().encode())
        self._file = path.open("a", newline="")

    def append(self, row: Row) -> None:
        """Writes a row; the first one names the columns."""
        writer = csv.DictWriter(self._file, list(row))
        try:
            if not self.rows:
                writer.writeheader()
            writer.writerow(row)
            self._file.flush()
        except OSError as error:
            raise NstyleError(f"cannot write {self._path}: {error.strerror}") from error
        self.rows.append(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

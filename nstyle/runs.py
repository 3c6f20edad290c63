"""A run's folder on disk: config, trace, pictures, result and versions.

runs/<content>-<style>-<hash>/
    config.yaml       the resolved settings
    trace.csv         every term at every step, written as the run goes
    step_000050.png   pictures on the way, on request
    result.png        the picture of the lowest loss
    result.json       how it ended, its losses, the inputs' hashes, versions and device
"""

import csv
import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax

from nstyle.errors import NstyleError
from nstyle.files import write_atomic

_PACKAGES = ("nstyle", "jax", "jaxlib", "flax", "optax", "jaxopt", "numpy", "pillow")


def run_id(deciding: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """Returns a hash of everything that decides a result, 12 hexadecimal digits.

    Args:
      deciding: settings without those that only say where results go.
      digests: hashes of the inputs' contents, by name.
    """
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    text = json.dumps([deciding, digests, versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_folder(runs_dir: Path, stems: list[str], identity: str) -> Path:
    """Returns the folder of a run: `<content>-<style>-<hash>` with plain characters only."""
    readable = [re.sub(r"[^A-Za-z0-9_]+", "_", stem)[:40] for stem in stems]
    return runs_dir / "-".join([*readable, identity])


def environment() -> dict[str, Any]:
    """Returns versions and device, for the record."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
    } | {name: importlib.metadata.version(name) for name in _PACKAGES}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a mapping as indented JSON, in one step."""
    write_atomic(path, (json.dumps(content, indent=2) + "\n").encode())


class Trace:
    """A CSV table that is on disk up to the last finished row, whatever happens next."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", newline="")
        except OSError as error:
            raise NstyleError(f"cannot write {path}: {error.strerror}") from error
        self._writer: csv.DictWriter[str] | None = None

    def append(self, row: Mapping[str, float | int]) -> None:
        """Writes a row; the first one names the columns."""
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

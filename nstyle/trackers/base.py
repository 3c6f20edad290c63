"""What a tracker is: a record that opens a log for each run."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nstyle.errors import NstyleError
from nstyle.records import Record


class Followed(NamedTuple):
    """A run, or a training, as a tracker knows it.

    Attributes:
      name: of its folder.
      identity: letters and digits, the same when the run goes on.
      folder: where it is made.
      settings: that decide its result, by name, those of groups as `pooling.exponent`.
      first: the step with which it goes on; 0: it is new, and a log of before is replaced.
    """

    name: str
    identity: str
    folder: Path
    settings: Mapping[str, Any]
    first: int = 0


class Log:
    """The log of one run."""

    def add(
        self, step: int, numbers: Mapping[str, float], picture: np.ndarray | None = None
    ) -> None:
        """Adds numbers by name, and now and then a picture, uint8 (height, width, 3)."""
        raise NotImplementedError

    def close(self, is_whole: bool) -> None:
        """Writes what is still to be written.

        Args:
          is_whole: whether the run is made to its end.
        """


class RunLog(Log):
    """The log of a tool whose runs have `log` and `finish`, as those of Weights & Biases have.

    Args:
      run: of that tool.
      image: makes a picture of the tool's from an array.
    """

    def __init__(self, run: Any, image: Callable[[np.ndarray], Any]) -> None:
        self._run, self._image = run, image

    def add(
        self, step: int, numbers: Mapping[str, float], picture: np.ndarray | None = None
    ) -> None:
        """Logs both in one call."""
        shown = {} if picture is None else {"picture": self._image(picture)}
        self._run.log({**numbers, **shown}, step=step)

    def close(self, is_whole: bool) -> None:
        """Ends the tool's run."""
        self._run.finish()


@dataclass(frozen=True)
class Tracker(Record):
    """Opens logs: of one tool for experiments, with the defaults and variables of that tool."""

    group = "tracker"

    def open(self, run: Followed) -> Log | None:
        """Returns the log of a run; the one it has already where an earlier process began it.

        Raises:
          NstyleError: the tool's package is missing.
        """
        raise NotImplementedError

    def _library(self, package: str) -> Any:
        """Returns the tool's package, which only those have who use it."""
        try:
            return importlib.import_module(package)
        except ImportError as error:
            extra = f"; pip install 'nstyle[{self.name}]'" if self.is_built_in else ""
            raise NstyleError(
                f"tracker={self.name}: the package {package} is missing{extra}"
            ) from error


@dataclass(frozen=True)
class NoTracker(Tracker):
    """No log besides the run's folder."""

    name = "none"

    def open(self, run: Followed) -> None:
        """Opens nothing."""

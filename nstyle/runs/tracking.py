"""The numbers and pictures of a run on their way to its tracker."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self

import numpy as np

from nstyle import images
from nstyle.errors import NstyleError
from nstyle.files import shown
from nstyle.process.interrupts import asked
from nstyle.trackers import Followed, Log, Tracker

_PICTURES = 10  # of a run, evenly spaced


class Tracking:
    """Logs a run, as a context manager. A tracker that fails ends its log, and never the run.

    Args:
      tracker: that opens the log.

    Attributes:
      failure: why the log ended early, or None.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker, self._every = tracker, 1
        self._log: Log | None = None
        self.failure: str | None = None

    def begin(self, run: Followed, steps: int) -> None:
        """Opens the log.

        Args:
          run: what is logged.
          steps: that it makes at most.

        Raises:
          NstyleError: the tracker cannot be had.
        """
        self._every = max(1, steps // _PICTURES)
        settings = {name: _readable(value) for name, value in run.settings.items()}
        try:
            self._log = self._tracker.open(run._replace(name=shown(run.name), settings=settings))
        except NstyleError:
            raise
        except Exception as error:
            raise NstyleError(f"tracker={self._tracker.name}: {_line(error)}") from error

    def add(
        self, row: Mapping[str, float | int], picture: Callable[[], np.ndarray] | None = None
    ) -> None:
        """Logs the numbers of a step, and of one in so many the picture.

        Args:
          row: a row of the trace, or other numbers and `step`.
          picture: returns float32 (height, width, 3) in [0, 1].
        """
        if self._log is None:
            return
        step = int(row["step"])
        numbers = {name: value for name, value in row.items() if name != "step"}
        pixels = None
        if picture is not None and step % self._every == 0:
            pixels = np.asarray(images.to_pillow(picture()))
        with self._guarded():
            self._log.add(step, numbers, pixels)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._log is not None:
            with self._guarded():
                self._log.close(is_whole=kind is None and not asked())

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a service and its package may raise
            log, self._log, self.failure = self._log, None, _line(error)
            if log is not None:
                with suppress(Exception):
                    log.close(is_whole=False)
            told = f"tracker={self._tracker.name}: {self.failure}; it is followed no further"
            print(f"nstyle: note: {told}", file=sys.stderr)


def scores_row(scores: Mapping[str, float | None], step: int) -> dict[str, float | int]:
    """Returns the scores that there are as a row of the last step."""
    known = {f"score/{name}": value for name, value in scores.items() if value is not None}
    return {"step": step, **known}


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _readable(value: Any) -> Any:
    """Returns a setting whose texts any tool can write: bytes that are not UTF-8 as escapes."""
    if isinstance(value, list):
        return [_readable(own) for own in value]
    return shown(value) if isinstance(value, str) else value

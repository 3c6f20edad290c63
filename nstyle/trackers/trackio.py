"""Trackio, which keeps runs on this machine and shows them with `trackio show`."""

import contextlib
import contextvars
import io
from dataclasses import dataclass
from typing import Any

from nstyle.trackers.base import Followed, Log, RunLog, Tracker


@dataclass(frozen=True)
class Trackio(Tracker):
    """A run of Trackio, in its own database.

    Attributes:
      project: where it stands there.
    """

    name = "trackio"
    project: str = "nstyle"

    def open(self, run: Followed) -> Log:
        """Returns a log, of the same run there when this one goes on."""
        trackio = self._library("trackio")
        with _quiet():
            if not run.first:
                with contextlib.suppress(ValueError):  # there is no such project yet
                    for own in trackio.Api().runs(self.project):
                        if own.name == run.name:
                            own.delete()
            # A context of its own for each run: in one, the next would end the one before.
            opened = contextvars.Context().run(
                trackio.init,
                project=self.project,
                name=run.name,
                config=dict(run.settings),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        return _Run(opened, trackio.Image)


class _Run(RunLog):
    def close(self, is_whole: bool) -> None:
        with _quiet():
            super().close(is_whole)


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """Keeps Trackio's own lines out of what the program prints."""
    return contextlib.redirect_stdout(io.StringIO())

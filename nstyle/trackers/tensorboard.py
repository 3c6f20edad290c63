"""TensorBoard: event files in the run's folder, `tensorboard --logdir runs`."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nstyle.trackers.base import Followed, Log, Tracker


@dataclass(frozen=True)
class TensorBoard(Tracker):
    """Event files by tensorboardX, in the folder `tensorboard` of the run's."""

    name = "tensorboard"

    def open(self, run: Followed) -> Log:
        """Returns a log; what a killed process wrote beyond the steps it kept is taken back."""
        library, folder = self._library("tensorboardX"), run.folder / "tensorboard"
        if not run.first:
            shutil.rmtree(folder, ignore_errors=True)
        purge = {"purge_step": run.first} if run.first else {}
        writer = library.SummaryWriter(str(folder), **purge)
        rows = "\n".join(f"| {name} | {value} |" for name, value in run.settings.items())
        writer.add_text("settings", f"| setting | value |\n| --- | --- |\n{rows}", run.first)
        return _Events(writer)


class _Events(Log):
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(
        self, step: int, numbers: Mapping[str, float], picture: np.ndarray | None = None
    ) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        if picture is not None:
            self._writer.add_image("picture", picture, step, dataformats="HWC")

    def close(self, is_whole: bool) -> None:
        self._writer.close()

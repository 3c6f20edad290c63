"""Scalars and pictures of a run for TensorBoard, on request: `tensorboard --logdir runs`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

from nstyle.errors import NstyleError
from nstyle.runs.store import Row

_PICTURES = 10  # of a run, evenly spaced


class Board:
    """Writes a run's event file in its folder, as a context manager; does nothing unless `wanted`.

    Args:
      folder: of the run.
      steps: of the run.
      first: steps already made by an earlier process, whose events beyond them are taken back.
      wanted: whether the user wants it.

    Raises:
      NstyleError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path, steps: int, first: int, wanted: bool) -> None:
        self._every = max(1, steps // _PICTURES)
        self._writer: Any = None
        if not wanted:
            return
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise NstyleError(
                "tensorboard: the package tensorboardX is missing;"
                " pip install 'nstyle[tensorboard]'"
            ) from error
        purge = {"purge_step": first} if first else {}
        self._writer = SummaryWriter(str(folder / "tensorboard"), **purge)

    def update(self, row: Row, picture: Callable[[], np.ndarray]) -> None:
        """Adds a row of the trace, and now and then the picture, (height, width, 3) from 0 to 1."""
        if self._writer is None:
            return
        step = row["step"]
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, step)
        if step % self._every == 0:
            shown = np.clip(picture(), 0, 1)
            self._writer.add_image("best picture", shown, step, dataformats="HWC")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

"""What a training keeps on its way: its checkpoints, and where its loss was lowest."""

import math
import sys
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np

from nstyle.errors import NstyleError
from nstyle.feedforward.training import State
from nstyle.runs import store, stored

#: A training has collapsed where its loss, the mean of so many rows, is so many times its lowest.
_MEAN_ROWS, _COLLAPSED = 10, 3.0


def tell(note: str) -> None:
    """Prints a note of a training."""
    print(f"nstyle-train: note: {note}", file=sys.stderr)


class Lowest:
    """Where the loss of a training was lowest, as the mean of some rows.

    Args:
      rows: of the trace that an earlier process left.

    Attributes:
      loss: the lowest mean since then.
      now: the mean of the last rows.
      state: of the last of the rows of the lowest mean; None before the first one.
    """

    def __init__(self, rows: Iterable[store.Row]) -> None:
        self._recent = deque((row["loss"] for row in rows), _MEAN_ROWS)
        self.loss = self.now = math.inf
        self.state: State | None = None

    def look(self, loss: float, state: State) -> None:
        """Takes note of a row."""
        self._recent.append(loss)
        self.now = float(np.mean(self._recent))
        if self.now <= self.loss:
            self.loss, self.state = self.now, state

    @property
    def collapsed(self) -> bool:
        """Whether the loss is far above its lowest, or not finite."""
        return self.state is not None and not self.now <= _COLLAPSED * self.loss


class Checkpoints:
    """Checkpoints of a training, each a file named by its step.

    Args:
      folder: theirs.
      identity: of the training; none goes on from those of another.
      every: seconds between two of them; 0 for none.
    """

    def __init__(self, folder: Path, identity: str, every: float) -> None:
        self._folder, self._kind, self._every = folder, f"checkpoint {identity}", every
        self._last = time.monotonic()

    def latest(self, initial: State) -> tuple[State, list[store.Row]]:
        """Returns the last state that is whole and its rows, or the initial one."""
        damaged: list[NstyleError] = []
        state, rows = initial, list[store.Row]()
        for path in self._there()[::-1]:
            try:
                found = stored.read_arrays(path, self._kind)
            except stored.DamagedError as error:
                damaged.append(error)
                continue
            if found is not None:
                rows, leaves = found
                state = jax.tree.unflatten(jax.tree.structure(initial), leaves)
                break
        for why in damaged:
            tell(f"{why}; the training goes on from step {int(state.step)}")
        return state, rows

    def write(self, state: State, rows: list[store.Row]) -> None:
        """Writes a state and the rows that led to it; of those before it the last one stays."""
        step = int(state.step)
        path = self._folder / f"{step:09}"
        made = [row for row in rows if row["step"] <= step]
        stored.write_arrays(path, self._kind, made, jax.tree.leaves(state))
        before = [other for other in self._there() if other.name < path.name and other.is_file()]
        for other in before[:-1]:
            other.unlink()
        self._last = time.monotonic()

    def write_if_due(self, state: State, rows: list[store.Row]) -> None:
        """Writes a state where so many seconds went by."""
        if self._every and time.monotonic() - self._last >= self._every:
            self.write(state, rows)

    def _there(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*"))

"""Progress on the terminal: a bar where there is one, a line now and then elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from nstyle.process.interrupts import check

#: Items from which `watched` shows a bar.
LONG = 10

_SECONDS_BETWEEN_LINES = 10.0

#: Seconds without a first step after which a run is said to compile.
_SECONDS_TO_COMPILE = 2.0

Item = TypeVar("Item")


class Place(NamedTuple):
    """Where a run stands in a sweep.

    Attributes:
      done: runs of the sweep that are finished.
      total: runs of the sweep.
      label: what tells this run from the others.
      seconds_per_run: mean time of the finished ones; None where there are none.
    """

    done: int
    total: int
    label: str
    seconds_per_run: float | None

    def time_left(self, share: float) -> str:
        """Returns the time left, such as `1:02:03 left`.

        Args:
          share: of this run that is done; of runs that go on together the sum of their shares.
        """
        if self.seconds_per_run is None:
            return ""
        return f"{_duration((self.total - self.done - share) * self.seconds_per_run)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f} steps/s" if task.speed else "compiling")


def losses(row: Mapping[str, float | int]) -> str:
    """Returns the losses of a row of a trace, of content and style what is left where it is known.

    Such as `loss 3.1  content 0.42  style 0.031`.
    """
    names = {"loss": "loss", "content": "content", "style": "style", "tv": "tv"}
    left = {name: f"{name}_left" for name in ("content", "style") if f"{name}_left" in row}
    return "  ".join(
        f"{name} {row[column]:.4g}" for name, column in (names | left).items() if row[column]
    )


class RunProgress:
    """Shows step, losses, speed and time left on standard error, as a context manager.

    A bar for each of the runs that go on together; elsewhere one of their lines now and then.

    Args:
      steps: of each run.
      firsts: steps of each already made by an earlier process.
      places: where each stands in a sweep, which is then shown too.
    """

    def __init__(
        self, steps: int, firsts: Sequence[int] = (0,), places: Sequence[Place | None] = (None,)
    ) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn(
                "{task.fields[sweep]}step {task.completed:.0f}/{task.total:.0f}", markup=False
            ),
            BarColumn(bar_width=20),
            _Speed(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[losses]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=places[0] is not None,
        )
        self._total, self._places = steps, places
        self._steps = list(firsts)
        self._seen: dict[int, tuple[int, float]] = {}  # first step of each here, and when
        self._tasks = [
            self._bar.add_task("", total=steps, completed=first, losses="", sweep=self._sweep(run))
            for run, first in enumerate(firsts)
        ]
        self._last_line = time.monotonic()
        self._waiting = threading.Timer(_SECONDS_TO_COMPILE, self._tell, ["compiling"])
        self._waiting.daemon = True

    def _sweep(self, run: int) -> str:
        place = self._places[run]
        if place is None:
            return ""
        left = place.time_left(sum(self._steps) / self._total)
        number = place.done + run + 1
        return f"run {number}/{place.total}{' ' + left if left else ''}  {place.label}  "

    def update(self, row: Mapping[str, float | int], run: int = 0) -> None:
        """Shows a row of a run's trace."""
        self._waiting.cancel()
        told = losses(row)
        step = int(row["step"])
        self._steps[run] = step
        sweep = self._sweep(run)
        self._bar.update(self._tasks[run], completed=step, losses=told, sweep=sweep)
        now = time.monotonic()
        first, began = self._seen.setdefault(run, (step, now))  # once it is compiled
        due = now - self._last_line > _SECONDS_BETWEEN_LINES or step == self._total
        if due and not self._console.is_terminal:
            self._last_line = now
            pace = ""
            if step > first and now > began:
                speed = (step - first) / (now - began)
                pace = f"  {speed:.2f} steps/s  {_duration((self._total - step) / speed)} left"
            self._tell(f"step {step}/{self._total}  {told}{pace}", run)

    def _tell(self, what: str, run: int = 0) -> None:
        line = f"{self._sweep(run)}{what}"
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def __enter__(self) -> Self:
        self._bar.start()
        if not self._console.is_terminal:
            self._waiting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.cancel()
        self._bar.stop()


@contextmanager
def counting(count: Callable[[], int], total: int, what: str) -> Iterator[None]:
    """Tells on standard error how many of `total` are done while other processes work on them."""
    ended = threading.Event()

    def tell() -> None:
        told = 0
        while not ended.wait(_SECONDS_BETWEEN_LINES / 2):
            done = count()
            if done != told:
                print(f"{done} of {total} {what} done", file=sys.stderr, flush=True)
                told = done

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def watched(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yields the items; tells on standard error how many are done, while that takes long.

    By a bar on a terminal, by a line now and then elsewhere.
    """
    console = Console(stderr=True)
    told = time.monotonic()
    with Progress(
        console=console,
        disable=not console.is_terminal or len(items) < LONG,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else what is printed would go where the bar goes
    ) as bar:
        for done, item in enumerate(bar.track(items, description=what)):
            check()
            if not console.is_terminal and time.monotonic() - told > _SECONDS_BETWEEN_LINES / 2:
                told = time.monotonic()
                print(f"{what}: {done} of {len(items)}", file=sys.stderr, flush=True)
            yield item

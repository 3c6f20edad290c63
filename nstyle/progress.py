"""Progress of a run on the terminal: a bar where there is one, a line now and then elsewhere."""

import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

_SECONDS_BETWEEN_LINES = 10.0


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f} steps/s" if task.speed else "compiling")


class RunProgress:
    """Shows step, losses, speed and time left on standard error, as a context manager."""

    def __init__(self, steps: int) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=20),
            _Speed(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[losses]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, losses="")
        self._steps = steps
        self._started = self._last_line = time.monotonic()

    def update(self, row: Mapping[str, float | int]) -> None:
        """Shows a row of the trace."""
        losses = "  ".join(
            f"{name} {row[name]:.4g}" for name in ("loss", "content", "style", "tv") if row[name]
        )
        self._bar.update(self._task, completed=row["step"], losses=losses)
        now = time.monotonic()
        due = now - self._last_line > _SECONDS_BETWEEN_LINES or row["step"] == self._steps
        if due and not self._console.is_terminal:
            self._last_line = now
            speed = row["step"] / (now - self._started)
            left = (self._steps - row["step"]) / speed if speed else float("nan")
            self._console.print(
                f"step {row['step']}/{self._steps}  {losses}"
                f"  {speed:.2f} steps/s  {left:.0f} s left",
                soft_wrap=True,
                highlight=False,
            )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

"""Runs that visitors of a page ask for: one queue, one run at a time, each a process of its own.

OUT/<id>/
    content.png, style.png   what was sent, as PNG
    runs/                    the run's own folder, as everywhere
    result.png               the picture
    log.txt                  what `nstyle` printed
"""

import asyncio
import logging
import math
import os
import secrets
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from nstyle.errors import NstyleError
from nstyle.files import Json, cache_dir

#: Seconds between two looks at a run.
_LOOK_EVERY = 0.4

#: Pictures on the way that a run saves, about.
_SAVED = 25

#: The command, with Ctrl-C as a terminal has it, also where the server itself ignores it; on Linux
#: it is told to end (PR_SET_PDEATHSIG) where the server is killed and cannot tell it.
_PROGRAM = (
    "import ctypes, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, signal.SIGTERM);"
    "from nstyle.cli import main; main()"
)

#: Columns of a trace that a visitor is shown.
_NUMBERS = ("loss", "content_left", "style_left")

#: Rows of a trace from which the time left is guessed.
_ROWS_TO_GUESS = 3


class Process(Protocol):
    """What is used of `asyncio.subprocess.Process`."""

    @property
    def returncode(self) -> int | None:
        """Its status, None while it runs; negative for the signal that ended it."""

    async def wait(self) -> int:
        """Waits until it ends."""

    def send_signal(self, signal: int, /) -> None:
        """Sends it a signal."""

    def kill(self) -> None:
        """Ends it at once."""


Start = Callable[[Sequence[str], Path], Awaitable[Process]]


async def start_nstyle(arguments: Sequence[str], folder: Path) -> Process:
    """Starts `nstyle` in a folder, out of reach of this terminal's Ctrl-C."""
    with (folder / "log.txt").open("wb") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", _PROGRAM, *arguments),
            cwd=folder,
            env=os.environ | {"NSTYLE_CACHE": str(cache_dir().absolute())},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


class Settings(NamedTuple):
    """What a visitor chooses of a run: checked numbers and known names, and nothing else."""

    recipe: str
    style_weight: float
    size: int
    steps: int
    init: str


class Stage(NamedTuple):
    """One size of a run: its pixels, and the rows of its trace."""

    pixels: int
    rows: int


@dataclass(eq=False)
class Job:
    """A run that was asked for.

    Attributes:
      id: by which its visitor finds it, and nobody else.
      folder: all that it writes.
      settings: what was chosen.
      stages: its sizes, from the coarsest.
      state: waiting, running, ending, done, stopped or failed.
      message: why it failed.
      step: the last one made; None before the first.
      numbers: `loss` at that step, and `content_left` and `style_left` where the recipe has them;
        those that are not finite are left out.
      seconds_left: a guess; None where there is none yet.
      saved: step of the last picture on the way.
    """

    id: str
    folder: Path
    settings: Settings
    stages: tuple[Stage, ...]
    state: str = "waiting"
    message: str = ""
    step: int | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    seconds_left: float | None = None
    saved: int | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _first: tuple[float, float] | None = None

    @property
    def steps(self) -> int:
        """The number of its last step."""
        return sum(stage.rows for stage in self.stages) - 1

    @property
    def arguments(self) -> list[str]:
        """The settings of its `nstyle`."""
        chosen = [
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in self.settings._asdict().items()
        ]
        pictures = ["content=content.png", "style=style.png", "out=result.png"]
        return [*pictures, *chosen, f"save_every={-(-self.steps // _SAVED)}", "scores=false"]

    @property
    def command(self) -> str:
        """The command that makes it again, in its folder."""
        return shlex.join(["nstyle", *self.arguments])

    def picture(self, step: int) -> Path | None:
        """Returns the file of a picture on the way, if there is one of this step."""
        return next(self.folder.glob(f"runs/*-*/step_{step:06d}.png"), None)

    def look(self) -> None:
        """Reads from the run's folder how far it is; what cannot be read leaves it as it was."""
        with suppress(OSError, ValueError, KeyError):
            self._look()

    def _look(self) -> None:
        trace = next(self.folder.glob("runs/*-*/trace.csv"), None)
        if trace is None:
            return
        names, *rows = trace.read_text().rpartition("\n")[0].split("\n")  # whole lines alone
        if rows:
            last = dict(zip(names.strip().split(","), rows[-1].strip().split(","), strict=True))
            self.step = int(last["step"])
            found = {name: float(last[name]) for name in _NUMBERS if name in last}
            self.numbers = {name: value for name, value in found.items() if math.isfinite(value)}
            self.seconds_left = self._guess(len(rows))
        steps = [int(path.stem[5:]) for path in trace.parent.glob("step_*.png")]
        self.saved = max(steps, default=None)

    def _guess(self, rows: int) -> float | None:
        """Returns the seconds left after so many rows, each as long as its size has pixels."""
        now, done = time.monotonic(), self._work(rows)
        if self._first is None:
            self._first = (now, done)
        began, before = self._first
        if rows < _ROWS_TO_GUESS or done == before:
            return None
        return (self._work(self.steps + 1) - done) * (now - began) / (done - before)

    def _work(self, rows: int) -> float:
        work = 0.0
        for stage in self.stages:
            made = min(rows, stage.rows)
            work, rows = work + made * stage.pixels, rows - made
        return work

    def conclude(self, status: int | None) -> None:
        """Takes down how its process ended."""
        self.look()
        if status == 0:
            self.state = "done"
        elif self.stop.is_set() or status == 130:
            self.state = "stopped"
        else:
            self.state, self.message = "failed", self._complaint(status)

    def _complaint(self, status: int | None) -> str:
        lines = (self.folder / "log.txt").read_text(errors="replace").splitlines()
        told = [line for line in lines if line.startswith("nstyle: ")]
        if status == 2 and told:
            return told[-1].removeprefix("nstyle: ")
        if status == -signal.SIGKILL:
            return "nstyle was killed; was there too little memory?"
        return f"nstyle ended with status {status}; log.txt in the run's folder says more"


class QueueFullError(NstyleError):
    """As many runs wait as may."""


class Jobs:
    """All runs that were asked for since the server started.

    Args:
      folder: each has its own in here; finished ones stay.
      waiting: runs that may wait for their turn.
      start: starts `nstyle` in a folder.
      grace: seconds from an interrupt until the process is killed.
    """

    def __init__(
        self, folder: Path, waiting: int, start: Start = start_nstyle, grace: float = 10.0
    ) -> None:
        self._folder, self._waiting, self._start, self._grace = folder, waiting, start, grace
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()  # first come, first served

    def new_folder(self) -> Path:
        """Returns a folder whose name nobody can guess; it is not there yet."""
        return self._folder / secrets.token_hex(16)

    def check_room(self) -> None:
        """Raises QueueFullError where one more would have to wait and may not."""
        if len(self._unfinished()) > self._waiting:
            raise QueueFullError(
                f"queue: it is full ({self._waiting} runs may wait); try again later"
            )

    def add(self, folder: Path, settings: Settings, stages: Sequence[Stage]) -> Job:
        """Puts a run at the end of the queue.

        Args:
          folder: from `new_folder`, with the pictures in it.
          settings: what was chosen.
          stages: its sizes.

        Raises:
          QueueFullError: there is no room.
        """
        self.check_room()
        job = self._jobs[folder.name] = Job(folder.name, folder, settings, tuple(stages))
        task = asyncio.create_task(self._make(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def find(self, identity: str) -> Job | None:
        """Returns a run by its id."""
        return self._jobs.get(identity)

    def view(self, job: Job) -> Json:
        """Returns what its visitor is told, as JSON has it."""
        unfinished = self._unfinished()
        return {
            name: getattr(job, name)
            for name in ("id", "state", "message", "step", "steps", "seconds_left", "saved")
        } | {
            **dict.fromkeys(_NUMBERS),
            **job.numbers,
            "before": unfinished.index(job) if job.state == "waiting" else 0,
            "result": (job.folder / "result.png").is_file(),
            "command": job.command,
            "folder": str(job.folder),
            "settings": job.settings._asdict(),
        }

    def cancel(self, job: Job) -> None:
        """Takes a run out of the queue, or ends it where it is; one that has ended stays so."""
        if job.state == "waiting":
            job.state = "stopped"
            shutil.rmtree(job.folder, ignore_errors=True)
        elif job.state == "running":
            job.state = "ending"
        job.stop.set()

    async def close(self) -> None:
        """Ends all that waits or runs, and waits for it."""
        for job in self._jobs.values():
            self.cancel(job)
        await asyncio.gather(*self._tasks)

    def _unfinished(self) -> list[Job]:
        states = ("waiting", "running", "ending")
        return [job for job in self._jobs.values() if job.state in states]

    async def _make(self, job: Job) -> None:
        async with self._turn:
            if job.state != "waiting":
                return
            job.state = "running"
            try:
                job.conclude(await self._run(job))
            except Exception as error:  # the others have their turn all the same
                logging.exception("a run of the page")
                job.state, job.message = "failed", f"the server could not make it ({error!r})"

    async def _run(self, job: Job) -> int | None:
        """Returns the status of a job's process, once it has ended."""
        process = await self._start(job.arguments, job.folder)
        ended, stopped = (asyncio.ensure_future(each()) for each in (process.wait, job.stop.wait))
        try:
            while not ended.done() and not stopped.done():
                await asyncio.wait(
                    [ended, stopped],
                    timeout=_LOOK_EVERY,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                job.look()
            if not ended.done():
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
                await asyncio.wait([ended], timeout=self._grace)
        finally:
            stopped.cancel()
            if not ended.done():
                with suppress(ProcessLookupError):
                    process.kill()
            await ended
        return process.returncode

"""A run while it is made: its trace, checkpoints, pictures, and in the end its result."""

import functools
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from nstyle import images
from nstyle.config import deciding, flat, to_yaml
from nstyle.errors import NstyleError
from nstyle.files import Json
from nstyle.process.interrupts import uninterrupted
from nstyle.process.progress import Place
from nstyle.runs import store, stored
from nstyle.runs.job import blank_state_of, build, picture_of
from nstyle.runs.planning import Plan
from nstyle.runs.resources import Compilations, memory_errors
from nstyle.runs.trace import row, weights_and_references
from nstyle.runs.tracking import Tracking
from nstyle.solvers import Step
from nstyle.trackers import Followed

#: Checkpoints take at most this share of a run's time.
_CHECKPOINT_SHARE = 0.02


class Task(NamedTuple):
    """A run to be made.

    Attributes:
      config: its settings, checked when it is planned.
      command: the command line that makes it again, for the record.
      place: where it stands in a sweep, for the progress display.
    """

    config: DictConfig
    command: str = ""
    place: Place | None = None


def tell(notes: Iterable[str]) -> None:
    """Prints notes, each once."""
    for note in dict.fromkeys(notes):
        print(f"nstyle: note: {note}", file=sys.stderr)


class Prepared(NamedTuple):
    """A run that is planned, the folder it is made in, and what its pictures have inside."""

    task: Task
    planned: Plan
    folder: Path
    metadata: str

    @property
    def config(self) -> DictConfig:
        """Its settings."""
        return self.task.config


class Recorder:
    """A run while it is made: its job, its files, and in the end its outcome.

    Args:
      run: what is to be made.
      batch: with how many runs it is optimised together, itself included.
      tracking: of it, which the caller closes.

    Attributes:
      outcome: its `result.json`, or what was wrong with it; None before.
      job: from `job.build`.
      state: where an earlier process left it, or None.
      trace: its rows so far.
    """

    def __init__(self, run: Prepared, batch: int, tracking: Tracking) -> None:
        self.run, self._batch, self._tracking = run, batch, tracking
        self.outcome: Json | NstyleError | None = None

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """What goes wrong inside is this run's outcome, and of no other."""
        try:
            with memory_errors():
                yield
        except NstyleError as error:
            self.outcome = error

    def open(self, files: ExitStack) -> None:
        """Computes the targets and opens the files, the trace as far as the checkpoint goes."""
        config, folder = self.run.config, self.run.folder
        if folder.is_file():
            stored.move_aside(folder)
        self.job = build(self.run.planned)
        self._path = folder / "checkpoint"
        kept = self._kept()
        rows, self._earlier = (kept.rows, kept.seconds) if kept else ([], 0.0)
        identity, settings = store.identity(folder), flat(deciding(config))
        followed = Followed(folder.name, identity, folder, settings, len(rows))
        self._tracking.begin(followed, self.job.steps)  # before anything that is there is touched
        stale = ("result.json", "scores.json", store.DEEP, *store.INSPECTION)
        for name in (*asked_files(config, self.job.steps), *stale, "checkpoint"):
            stored.make_way(folder / name)
        stored.write(folder / "config.yaml", to_yaml(config).encode())
        for name in stale:
            (folder / name).unlink(missing_ok=True)
        self.state = kept.state if kept else None
        self._batch = max(self._batch, kept.batch if kept else 1)
        self._started = time.monotonic()
        self._due = self._started + config.checkpoint_every
        self.trace = files.enter_context(store.Trace(folder / "trace.csv", rows))

    def _kept(self) -> store.Checkpoint | None:
        """Returns where an earlier process left the run, if that can be read."""
        blank = functools.partial(blank_state_of, self.job)
        try:
            return store.Checkpoint.read(self._path, blank)
        except stored.DamagedError as error:
            tell([f"{error}; the run starts again"])
            return None

    def add(self, step: Step) -> None:
        """Writes a step down, and its picture where `save_every` asks for it."""
        picture = functools.partial(picture_of, step, self.job)
        self.trace.append(row(step, self.job))
        self._tracking.add(self.trace.rows[-1], picture)
        every = self.run.config.save_every
        if every and step.step and step.step % every == 0:
            name = _step_picture(step.step)
            images.save(self.run.folder / name, picture(), self.run.metadata)

    def checkpoint_when_due(self, step: Step) -> None:
        """Writes a checkpoint now and then; those of a batch together keep to their share."""
        every = self.run.config.checkpoint_every
        before = time.monotonic()
        if every and before > self._due:
            self._checkpoint(step)
            took = time.monotonic() - before
            self._due = time.monotonic() + max(every, self._batch * took / _CHECKPOINT_SHARE)

    def interrupt(self, step: Step) -> None:
        """Saves what there is, to go on from there."""
        self._checkpoint(step)
        self.finish(step, "interrupted")

    def finish(self, step: Step, stop: str) -> None:
        """Writes picture and result."""
        folder, metadata = self.run.folder, self.run.metadata
        with uninterrupted():
            images.save(folder / "result.png", picture_of(step, self.job), metadata)
            if self.run.config.bits == 16:
                picture = picture_of(step, self.job)
                images.save(folder / store.DEEP, picture, metadata, bits=16)
            self.outcome = {
                "run": store.identity(folder),
                "stop": stop,
                "steps": step.step,
                "best": self.trace.rows[step.best_step],
                **weights_and_references(self.job),
                "seconds": round(self._seconds(), 3),
                "batch": self._batch,
                "compiles": Compilations.take(),
                "command": self.run.task.command,
                "inputs": self.run.planned.digests,
                "environment": store.environment(),
                "config": deciding(self.run.config),
                "files": {
                    name: stored.digest(folder / name)
                    for name in asked_files(self.run.config, step.step)
                    if (folder / name).is_file()
                },
            }
            stored.write_json(folder / "result.json", "result", self.outcome)
            if stop != "interrupted":
                self._path.unlink(missing_ok=True)

    def _checkpoint(self, step: Step) -> None:
        rows, seconds = self.trace.rows, self._seconds()
        store.Checkpoint(step.state(), rows, seconds, self._batch).write(self._path)

    def _seconds(self) -> float:
        return self._earlier + time.monotonic() - self._started


def asked_files(config: DictConfig, steps: int) -> list[str]:
    """Returns the names of the files that a run of so many steps is asked for."""
    every = config.save_every or steps + 1
    on_the_way = [_step_picture(step) for step in range(every, steps + 1, every)]
    return [*store.FILES, *([store.DEEP] if config.bits == 16 else []), *on_the_way]


def _step_picture(step: int) -> str:
    return f"step_{step:06d}.png"


def pictured_steps(names: Iterable[str]) -> dict[int, str]:
    """Returns those of the names of files that are pictures of a step, by the step."""
    own = (name for name in names if name.startswith("step_"))
    return {int(name.removeprefix("step_").removesuffix(".png")): name for name in own}

"""Runs from their settings to their folders: what is there is taken, the rest is made together.

Ctrl-C and SIGTERM end a run early; the best picture so far is saved all the same, and the same
command goes on where it stopped.
"""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from nstyle import __version__, images
from nstyle.config import PATH_KEYS, TARGET_KEYS, deciding, files, record
from nstyle.errors import NstyleError
from nstyle.files import Json, path_exists
from nstyle.process import huge_pages
from nstyle.process.interrupts import asked, check, handled, let_wait, uninterrupted
from nstyle.process.progress import Place, RunProgress
from nstyle.runs import store
from nstyle.runs.finished import folder_of, has_scores, result_of, reusable_result, write_scores
from nstyle.runs.job import run_together
from nstyle.runs.planning import plan
from nstyle.runs.recording import Prepared, Recorder, Task, tell
from nstyle.runs.resources import Compilations, effort, keep_compiled, limit_threads, memory_errors
from nstyle.runs.tracking import Tracking, scores_row
from nstyle.solvers import Step
from nstyle.trackers import NoTracker, Tracker


class Performed(NamedTuple):
    """A run that is on disk.

    Attributes:
      folder: its folder; the picture is `result.png` in it.
      stop: why it ended, a key of `solvers.STOPS`.
      steps: how many steps it made.
      best: the row of the trace with the lowest loss; see `trace.row`.
      reused: whether it was there already.
    """

    folder: Path
    stop: str
    steps: int
    best: store.Row
    reused: bool


def perform(config: DictConfig, command: str = "", place: Place | None = None) -> Performed:
    """Runs a config and writes its folder, and the picture to `out` where it is given.

    A finished run is not made again, an unfinished one goes on from its last checkpoint, and ends
    as if it had never stopped.

    Args:
      config: see `Task`.
      command: likewise.
      place: likewise.

    Raises:
      NstyleError: one line that names what is wrong, before anything is computed where possible.
      KeyboardInterrupt: interrupted; what was computed is saved.
    """
    with handled():
        (outcome,) = perform_together([Task(config, command, place)])
        check()
    if isinstance(outcome, NstyleError):
        raise outcome
    return outcome


def perform_together(tasks: Sequence[Task]) -> list[Performed | NstyleError]:
    """Does what `perform` does for several runs, those that are not there yet optimised together.

    Args:
      tasks: runs whose `planning.kind_of` is the same, none of them by tiles.

    Returns:
      What was done for each; or what was wrong with it, which does not disturb the others.

    Raises:
      NstyleError: nothing can be done for any of them.
      KeyboardInterrupt: interrupted before the first step. Later the runs are saved where they
        are, with `stop` "interrupted", or whole: see `interrupts.asked`.
    """
    limit_threads(tasks[0].config.threads)
    keep_compiled()
    outcomes: dict[int, Performed | NstyleError] = {}
    wanted = {}
    for i, task in enumerate(tasks):
        try:
            wanted[i] = _prepare(task)
        except NstyleError as error:
            outcomes[i] = error
    tell(note for run in wanted.values() for note in run.planned.notes)
    with ExitStack() as held:
        # In one order, so that processes with some runs in common never wait for each other.
        for folder in sorted({run.folder for run in wanted.values()}, key=store.identity):
            busy = f"nstyle: another process makes {folder}; waiting for it"
            held.enter_context(store.locked(folder, busy))
        held.enter_context(handled())
        check()
        there = {i: reusable_result(run) for i, run in wanted.items()}
        missing = [i for i in wanted if there[i] is None]
        tell(note for i in missing for note in effort(wanted[i].planned))
        tell(note for i, run in wanted.items() if i not in missing for note in _unfollowed(run))
        trackings = {
            i: held.enter_context(Tracking(record(wanted[i].config, Tracker))) for i in missing
        }
        records = [Recorder(wanted[i], len(missing), trackings[i]) for i in missing]
        made = dict(zip(missing, _make(records), strict=True))
        for i, run in wanted.items():
            result = there[i] or made[i]
            if isinstance(result, NstyleError):
                outcomes[i] = result
                continue
            stop, steps, best = result["stop"], result["steps"], result["best"]
            if stop != "interrupted" and not has_scores(run, result):
                with memory_errors():
                    found = write_scores(run, result)
                if i in trackings:
                    trackings[i].add(scores_row(found, steps))
            outcomes[i] = Performed(run.folder, stop, steps, best, there[i] is not None)
    for i, run in wanted.items():
        if run.config.out is not None and isinstance(outcomes[i], Performed):
            out = Path(run.config.out).expanduser()
            images.save(out, result_of(run), run.metadata, bits=run.config.bits)
    return [outcomes[i] for i in range(len(tasks))]


def _unfollowed(run: Prepared) -> list[str]:
    """Returns a note for a run that was made before and whose tracker is to have it."""
    tracker = record(run.config, Tracker)
    if isinstance(tracker, NoTracker):
        return []
    told = f"nstyle export {run.folder} tracker={tracker.name}"
    return [f"made before, so that there is nothing to follow: {told}"]


def _prepare(task: Task) -> Prepared:
    config = task.config
    if config.out is not None:
        out = Path(config.out).expanduser()
        _check_writable(out, config.bits)
        _check_not_input(out, config)
    planned = plan(config)
    if any(size.tile for size in planned.sizes):
        huge_pages.keep_for_tiles()
    metadata = json.dumps({"nstyle": __version__, "config": deciding(config)}, sort_keys=True)
    return Prepared(task, planned, folder_of(config, planned), metadata)


def _make(records: Sequence[Recorder]) -> list[Json | NstyleError]:
    """Makes runs together, from their checkpoints where there are any.

    Returns:
      The `result.json` of each, or what was wrong with it.
    """
    Compilations.take()
    with ExitStack() as files:
        for record in records:
            with record.own_errors():
                record.open(files)
        opened = [record for record in records if record.outcome is None]
        try:
            with memory_errors():
                _optimise(opened)
        except NstyleError as error:
            for record in opened:
                record.outcome = record.outcome or error
    return [record.outcome for record in records if record.outcome is not None]


def _optimise(records: Sequence[Recorder]) -> None:
    """Optimises runs together until each has its outcome."""
    if not records:
        return
    progress = RunProgress(
        records[0].job.steps,
        [len(record.trace.rows) for record in records],
        [record.run.task.place for record in records],
    )
    jobs, states = zip(*((record.job, record.state) for record in records), strict=True)
    with progress:
        for steps in run_together(jobs, states):
            for i, (record, step) in enumerate(zip(records, steps, strict=True)):
                if record.outcome is not None:
                    continue
                with record.own_errors():
                    if isinstance(step, NstyleError):
                        raise step
                    if step.is_new:
                        record.add(step)
                        progress.update(record.trace.rows[-1], i)
                        if step.is_last:
                            record.finish(step, step.stop)
            let_wait()
            going = [
                (record, step)
                for record, step in zip(records, steps, strict=True)
                if record.outcome is None and isinstance(step, Step)
            ]
            if asked():
                with uninterrupted():
                    for record, step in going:
                        with record.own_errors():
                            record.interrupt(step)
                return
            for record, step in going:
                with record.own_errors():
                    record.checkpoint_when_due(step)
            if not going:
                return


def _check_not_input(out: Path, config: DictConfig) -> None:
    """Refuses to write over a picture or weights that the run reads."""
    read = [key for key in PATH_KEYS if key not in TARGET_KEYS]
    inputs = [(key, file) for key in read for file in files(config, key) if file]
    for key, file in inputs:
        both = path_exists(file) and path_exists(str(out))
        if both and out.samefile(Path(file).expanduser()):
            raise NstyleError(f"out: {out} is the run's own {key}; choose another name")


def _check_writable(out: Path, bits: int) -> None:
    """Refuses an output that cannot be written before the work rather than after."""
    images.check_format(out, bits)
    if out.is_dir():
        raise NstyleError(f"out: {out} is a folder")
    parent = out.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise NstyleError(f"out: cannot write {out}: {parent} is not a folder")
    if not os.access(parent, os.W_OK):
        raise NstyleError(f"out: cannot write {out}: no permission to write in {parent}")

"""One run from its config to its folder: progress on the terminal, trace and pictures on disk.

Ctrl-C and SIGTERM end a run early; the best picture so far is saved all the same, and the same
command goes on where it stopped.
"""

import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import threadpoolctl
from omegaconf import DictConfig

from nstyle import __version__, images, runs
from nstyle.config import deciding, identifying, to_yaml
from nstyle.errors import NstyleError
from nstyle.files import cache_dir, path_exists, write_atomic
from nstyle.job import Job, Plan, blank_course_of, build, picture_of, plan, row, run
from nstyle.progress import Place, RunProgress
from nstyle.scores import score
from nstyle.solver import STEP_PROGRAM
from nstyle.tensorboard import Board
from nstyle.transfer import Moment

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: Checkpoints take at most this share of a run's time.
_CHECKPOINT_SHARE = 0.02


class Performed(NamedTuple):
    """A run that is on disk.

    Attributes:
      folder: its folder; the picture is `result.png` in it.
      stop: why it ended, a key of `solver.STOPS`.
      steps: how many steps it made.
      best: the row of the trace with the lowest loss; see `job.row`.
      reused: whether it was there already.
    """

    folder: Path
    stop: str
    steps: int
    best: runs.Row
    reused: bool


def perform(config: DictConfig, command: str = "", place: Place | None = None) -> Performed:
    """Runs a config and writes its folder, and the picture to `out` where it is given.

    A finished run is not made again, an unfinished one goes on from its last checkpoint, and ends
    as if it had never stopped.

    Args:
      config: checked when it is planned.
      command: the command line that makes this run again, for the record.
      place: where the run stands in a sweep, for the progress display.

    Raises:
      NstyleError: one line that names what is wrong, before anything is computed where possible.
      KeyboardInterrupt: interrupted before the first step.
    """
    limit_threads(config.threads)
    keep_compiled()
    out = None if config.out is None else Path(config.out).expanduser()
    if out is not None:
        _check_writable(out)
        _check_not_input(out, config)
    planned = plan(config)
    for note in planned.notes:
        print(f"nstyle: note: {note}", file=sys.stderr)
    folder = folder_of(config, planned)
    metadata = json.dumps({"nstyle": __version__, "config": deciding(config)}, sort_keys=True)
    with runs.locked(folder, f"nstyle: another process makes {folder}; waiting for it"), _signals():
        result = _reusable(config, folder)
        reused = result is not None
        if result is None:
            result = _make(config, planned, folder, metadata, command, place)
        if result["stop"] != "interrupted" and not _scored(config, folder):
            _write_scores(folder, planned)
    if out is not None:
        images.save(out, images.load(folder / "result.png"), metadata)
    return Performed(folder, result["stop"], result["steps"], result["best"], reused)


def folder_of(config: DictConfig, planned: Plan) -> Path:
    """Returns the folder of a run, named by the hash of all that decides its result."""
    identity = runs.run_id(identifying(config), planned.digests)
    stems = [Path(config[key]).stem for key in ("content", "style") if config[key] is not None]
    return runs.run_folder(Path(config.runs_dir).expanduser(), stems, identity)


def limit_threads(threads: int | None) -> None:
    """Limits what JAX, if it has not started yet, and the linear algebra of NumPy use of the cores.

    Raises:
      NstyleError: JAX has started with another number.
    """
    if threads is None:
        return
    if _Threads.limit not in (None, threads):
        raise NstyleError(
            f"threads: {threads} after {_Threads.limit} in one process; give runs of one number to"
            " one command"
        )
    os.environ["PJRT_NPROC"] = str(threads)
    threadpoolctl.threadpool_limits(threads)
    _Threads.limit = threads


class _Threads:
    """The limit of this process, once it is set."""

    limit: int | None = None


def keep_compiled() -> None:
    """Keeps compiled programs in the user's cache, unless JAX was told where to keep them."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


class _Compilations:
    """How often this process compiled the step, or loaded it from the cache on disk."""

    count = 0

    @classmethod
    def listen(cls) -> None:
        """Begins to count; once for a process."""

        def heard(event: str, duration_secs: float, **what: str | int) -> None:
            compiled = event == "/jax/core/compile/backend_compile_duration"
            cls.count += compiled and what.get("fun_name") == STEP_PROGRAM

        jax.monitoring.register_event_duration_secs_listener(heard)


_Compilations.listen()


def _make(
    config: DictConfig,
    planned: Plan,
    folder: Path,
    metadata: str,
    command: str,
    place: Place | None,
) -> dict[str, Any]:
    """Makes the run, from its checkpoint where there is one, and returns its `result.json`."""
    for stale in ("result.json", "scores.json"):
        (folder / stale).unlink(missing_ok=True)
    compiled_before = _Compilations.count
    job = build(planned)
    last, best, stop, seconds = _optimise(job, config, folder, metadata, place)
    with _uninterrupted():
        images.save(folder / "result.png", picture_of(last, job), metadata)
        result = {
            "stop": stop,
            "steps": last.step,
            "best": best,
            "seconds": round(seconds, 3),
            "compiles": _Compilations.count - compiled_before,
            "command": command,
            "inputs": planned.digests,
            "environment": runs.environment(),
            "config": deciding(config),
        }
        runs.write_json(folder / "result.json", result)
        if stop != "interrupted":
            (folder / "checkpoint").unlink(missing_ok=True)
    return result


def _optimise(
    job: Job, config: DictConfig, folder: Path, metadata: str, place: Place | None
) -> tuple[Moment, runs.Row, str, float]:
    """Returns the last moment, the best row, why the run ended, and its seconds."""
    path = folder / "checkpoint"
    kept = runs.Checkpoint.read(path, functools.partial(blank_course_of, job))
    rows, earlier = (kept.rows, kept.seconds) if kept else ([], 0.0)
    write_atomic(folder / "config.yaml", to_yaml(config).encode())
    started = time.monotonic()
    due = started + config.checkpoint_every

    def seconds() -> float:
        return earlier + time.monotonic() - started

    with ExitStack() as open_:
        trace = open_.enter_context(runs.Trace(folder / "trace.csv", rows))
        progress = open_.enter_context(RunProgress(job.steps, len(rows), place))
        board = open_.enter_context(Board(folder, job.steps, len(rows), config.tensorboard))
        for last in run(job, kept.standing if kept else None):
            trace.append(row(last, job))
            progress.update(trace.rows[-1])
            board.update(trace.rows[-1], functools.partial(picture_of, last, job))
            if config.save_every and last.step and last.step % config.save_every == 0:
                name = f"step_{last.step:06d}.png"
                images.save(folder / name, picture_of(last, job), metadata)
            stop = last.iteration.stop if last.last else ""
            stop = stop or ("interrupted" if _Interrupts.asked else "")
            _Interrupts.at_once = False
            late = config.checkpoint_every and time.monotonic() > due
            if stop == "interrupted" or (late and not stop):
                before = time.monotonic()
                runs.Checkpoint(last.standing, trace.rows, seconds()).write(path)
                took = time.monotonic() - before
                due = time.monotonic() + max(config.checkpoint_every, took / _CHECKPOINT_SHARE)
            if stop:
                break
    return last, trace.rows[last.best_step], stop, seconds()


def done(config: DictConfig, folder: Path) -> bool:
    """Says whether all that the settings ask for is in a run's folder and may be reused."""
    return _reusable(config, folder) is not None and _scored(config, folder)


def _reusable(config: DictConfig, folder: Path) -> dict[str, Any] | None:
    """Returns `result.json` where the run need not be made, else None."""
    result = runs.finished(folder)
    if result is None or not config.reuse:
        return None
    every = config.save_every or result["steps"] + 1
    steps = (folder / f"step_{step:06d}.png" for step in range(every, result["steps"] + 1, every))
    return result if all(path.is_file() for path in steps) else None


def _scored(config: DictConfig, folder: Path) -> bool:
    return not config.scores or (folder / "scores.json").is_file()


def _write_scores(folder: Path, planned: Plan) -> None:
    pictures = (planned.content, planned.style)
    content, style = (None if picture is None else picture.array for picture in pictures)
    runs.write_json(
        folder / "scores.json", score(images.load(folder / "result.png"), content, style)
    )


class _Interrupts:
    """What Ctrl-C and SIGTERM do at this moment.

    Attributes:
      asked: a signal came; the run ends after the step at hand, when its course is whole.
      at_once: a signal ends the process: nothing is computed yet, or it is the second one.
    """

    asked = False
    at_once = True


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is there is saved, whatever is pressed."""
    if not _in_main_thread():
        yield
        return
    before = {sign: signal.signal(sign, signal.SIG_IGN) for sign in _SIGNALS}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


@contextmanager
def _signals() -> Iterator[None]:
    """Ends a run after the step at hand; outside the main thread signals are not ours to handle."""
    if not _in_main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        if _Interrupts.at_once:
            raise KeyboardInterrupt
        _Interrupts.asked = _Interrupts.at_once = True

    _Interrupts.asked, _Interrupts.at_once = False, True
    before = {sign: signal.signal(sign, interrupt) for sign in _SIGNALS}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _check_not_input(out: Path, config: DictConfig) -> None:
    """Refuses to write over a picture or weights that the run reads."""
    inputs = [key for key in ("content", "style", "init", "weights") if config[key] is not None]
    for key in inputs:
        both = path_exists(config[key]) and path_exists(str(out))
        if both and out.samefile(Path(config[key]).expanduser()):
            raise NstyleError(f"out: {out} is the run's own {key}; choose another name")


def _check_writable(out: Path) -> None:
    """Refuses an output that cannot be written before the work rather than after."""
    images.check_format(out)
    if out.is_dir():
        raise NstyleError(f"out: {out} is a folder")
    parent = out.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise NstyleError(f"out: cannot write {out}: {parent} is not a folder")
    if not os.access(parent, os.W_OK):
        raise NstyleError(f"out: cannot write {out}: no permission to write in {parent}")

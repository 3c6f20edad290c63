"""One run from its config to its folder: progress on the terminal, trace and pictures on disk.

Ctrl-C and SIGTERM end a run early; the best picture so far is saved all the same.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
from omegaconf import DictConfig

from nstyle import __version__, images, runs
from nstyle.config import deciding, to_yaml
from nstyle.errors import NstyleError
from nstyle.files import cache_dir, path_exists, write_atomic
from nstyle.job import Job, load, picture_of, row, run
from nstyle.progress import RunProgress
from nstyle.solver import Iteration


class Performed(NamedTuple):
    """A run that is on disk.

    Attributes:
      folder: its folder; the picture is `result.png` in it.
      stop: why it ended, a key of `solver.STOPS`.
      steps: how many steps it made.
      best: the row of the trace with the lowest loss; see `job.row`.
    """

    folder: Path
    stop: str
    steps: int
    best: dict[str, float | int]


def perform(config: DictConfig, reuse: bool = False) -> Performed:
    """Runs a config and writes its folder, and the picture to `out` where it is given.

    Args:
      config: checked when it is loaded.
      reuse: take a run that is already there and ended by itself for done.

    Raises:
      NstyleError: one line that names what is wrong, before anything is computed where possible.
      KeyboardInterrupt: interrupted before the first step.
    """
    keep_compiled()
    out = None if config.out is None else Path(config.out).expanduser()
    if out is not None:
        _check_writable(out)
        _check_not_input(out, config)
    job = load(config)
    for note in job.notes:
        print(f"nstyle: note: {note}", file=sys.stderr)
    settings = deciding(config)
    stems = [Path(config[key]).stem for key in ("content", "style") if config[key] is not None]
    identity = runs.run_id(settings, job.digests)
    folder = runs.run_folder(Path(config.runs_dir).expanduser(), stems, identity)
    if reuse and (found := _finished(folder)):
        return found

    metadata = json.dumps({"nstyle": __version__, "config": settings}, sort_keys=True)
    with _signals():
        last, best, stop = _optimise(job, config, folder, metadata)
        _ignore_interrupts()
        for path in filter(None, (folder / "result.png", out)):
            images.save(path, picture_of(last, job), metadata)
        summary = {
            "stop": stop,
            "steps": last.step,
            "best": best,
            "inputs": job.digests,
            "environment": runs.environment(),
            "config": settings,
        }
        runs.write_json(folder / "result.json", summary)
    return Performed(folder, stop, last.step, best)


def keep_compiled() -> None:
    """Keeps compiled programs in the user's cache, unless JAX was told where to keep them."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _optimise(
    job: Job, config: DictConfig, folder: Path, metadata: str
) -> tuple[Iteration, dict[str, float | int], str]:
    """Returns the last iteration, the best row, and why the run ended."""
    last: Iteration | None = None
    best: dict[str, float | int] = {}
    with runs.Trace(folder / "trace.csv") as trace, RunProgress(config.steps) as progress:
        write_atomic(folder / "config.yaml", to_yaml(config).encode())
        try:
            for last in run(job):
                values = row(last, job)
                best = values if last.step == last.best_step else best
                trace.append(values)
                progress.update(values)
                if config.save_every and last.step and last.step % config.save_every == 0:
                    name = f"step_{last.step:06d}.png"
                    images.save(folder / name, picture_of(last, job), metadata)
        except KeyboardInterrupt:
            if last is None:
                raise
            return last, best, "interrupted"
    assert last is not None, "a minimisation yields its first picture"
    return last, best, last.stop


def _finished(folder: Path) -> Performed | None:
    if not (folder / "result.json").is_file():
        return None
    result = json.loads((folder / "result.json").read_text())
    if result["stop"] == "interrupted":
        return None
    return Performed(folder, result["stop"], result["steps"], result["best"])


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _ignore_interrupts() -> None:
    """From here on what is there is saved, whatever is pressed."""
    if _in_main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _signals() -> Iterator[None]:
    """Treats SIGTERM like Ctrl-C; outside the main thread signals are not ours to handle."""
    if not _in_main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, interrupt)
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

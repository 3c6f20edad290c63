"""One run from its config to its folder: progress on the terminal, trace and pictures on disk.

Ctrl-C and SIGTERM end a run early; the best picture so far is saved all the same, and the same
command goes on where it stopped.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl
from omegaconf import DictConfig

from nstyle import __version__, images
from nstyle.config import PATH_KEYS, TARGET_KEYS, deciding, files, identifying, scores, to_yaml
from nstyle.errors import NstyleError
from nstyle.files import cache_dir, path_exists
from nstyle.process import huge_pages
from nstyle.process.interrupts import asked, check, handled, let_wait, uninterrupted
from nstyle.process.progress import Place, RunProgress
from nstyle.runs import store, stored
from nstyle.runs.code import code_of, code_version
from nstyle.runs.job import blank_state_of, build, picture_of, run_together
from nstyle.runs.planning import Plan, plan
from nstyle.runs.tensorboard import Board
from nstyle.runs.trace import row, weights_and_references
from nstyle.scores import described, score
from nstyle.solvers import STEP_PROGRAM, Step

#: Pixels from which a run says beforehand what it will take.
_LARGE_PIXELS = 1024 * 768

#: Operations of the network in the time of one in a large matrix product.
_NETWORK_SHARE = 0.7

#: Checkpoints take at most this share of a run's time.
_CHECKPOINT_SHARE = 0.02


#: Modules and packages that scores depend on, beside those that decide results.
_SCORING = frozenset({"scores"})


class Performed(NamedTuple):
    """A run that is on disk.

    Attributes:
      folder: its folder; the picture is `result.png` in it.
      stop: why it ended, a key of `solvers.STOPS`.
      steps: how many steps it made.
      best: the row of the trace with the lowest loss; see `job.row`.
      reused: whether it was there already.
    """

    folder: Path
    stop: str
    steps: int
    best: store.Row
    reused: bool


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
      tasks: runs whose `job.kind_of` is the same, none of them by tiles.

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
    _tell(note for run in wanted.values() for note in run.planned.notes)
    with ExitStack() as held:
        # In one order, so that processes with some runs in common never wait for each other.
        for folder in sorted({run.folder for run in wanted.values()}, key=store.identity):
            busy = f"nstyle: another process makes {folder}; waiting for it"
            held.enter_context(store.locked(folder, busy))
        held.enter_context(handled())
        check()
        there = {i: _there(run) for i, run in wanted.items()}
        missing = [i for i in wanted if there[i] is None]
        _tell(note for i in missing for note in _effort(wanted[i].planned))
        made = dict(zip(missing, _make([wanted[i] for i in missing]), strict=True))
        for i, run in wanted.items():
            result = there[i] or made[i]
            if isinstance(result, NstyleError):
                outcomes[i] = result
                continue
            stop, steps, best = result["stop"], result["steps"], result["best"]
            if stop != "interrupted" and not _has_scores(run, result):
                with _memory_errors():
                    _write_scores(run, result)
            outcomes[i] = Performed(run.folder, stop, steps, best, there[i] is not None)
    for i, run in wanted.items():
        if run.config.out is not None and isinstance(outcomes[i], Performed):
            out = Path(run.config.out).expanduser()
            images.save(out, images.load(run.folder / "result.png"), run.metadata)
    return [outcomes[i] for i in range(len(tasks))]


def _tell(notes: Iterable[str]) -> None:
    """Prints notes, each once."""
    for note in dict.fromkeys(notes):
        print(f"nstyle: note: {note}", file=sys.stderr)


def _effort(planned: Plan) -> Iterator[str]:
    """Yields what a large run will take, measuring how fast this machine is."""
    height, width = planned.sizes[-1].shape[:2]
    if height * width < _LARGE_PIXELS:
        return
    minutes = planned.operations / _operations_per_second() / 60
    by_tiles = "" if planned.sizes[-1].tile is None else f" by tiles of {planned.sizes[-1].tile}"
    yield (
        f"{width} x {height} pixels{by_tiles}: about {planned.memory / 2**30:.1f} GiB of memory and"
        f" {minutes:.0f} minutes, if all steps are made"
    )


@functools.cache
def _operations_per_second() -> float:
    """Returns how fast networks are here, from the time of a matrix product."""
    side = 2048
    matrix = jnp.ones((side, side))
    product = jax.jit(jnp.dot)
    product(matrix, matrix).block_until_ready()
    began = time.perf_counter()
    product(matrix, matrix).block_until_ready()
    return _NETWORK_SHARE * 2 * side**3 / (time.perf_counter() - began)


class _Run(NamedTuple):
    """A run that is planned, the folder it is made in, and what its pictures have inside."""

    task: Task
    planned: Plan
    folder: Path
    metadata: str

    @property
    def config(self) -> DictConfig:
        return self.task.config


def _prepare(task: Task) -> _Run:
    config = task.config
    if config.out is not None:
        out = Path(config.out).expanduser()
        _check_writable(out)
        _check_not_input(out, config)
    planned = plan(config)
    if any(size.tile for size in planned.sizes):
        huge_pages.keep_for_tiles()
    metadata = json.dumps({"nstyle": __version__, "config": deciding(config)}, sort_keys=True)
    return _Run(task, planned, folder_of(config, planned), metadata)


def folder_of(config: DictConfig, planned: Plan) -> Path:
    """Returns the folder of a run, named by the hash of all that decides its result."""
    identity = store.run_id(identifying(config), planned.digests, planned.records)
    named = [
        [Path(file).stem for file in files(config, key) if file] for key in ("content", "style")
    ]
    stems = ["_".join(own) for own in named if own]
    return store.run_folder(Path(config.runs_dir).expanduser(), stems, identity)


def limit_threads(threads: int | None) -> None:
    """Limits what JAX, if it has not started yet, uses of the cores; linear algebra has one.

    Its matrices have 512 rows at most: alone two threads are 10 to 20 % faster than one, but beside
    another busy process, where they wait for each other, they take 3 to 20 times as long.

    Raises:
      NstyleError: JAX has started with another number.
    """
    import scipy.linalg  # noqa: F401  whose library JAX takes for it

    threadpoolctl.threadpool_limits(1)
    if threads is None:
        return
    if _Threads.limit not in (None, threads):
        raise NstyleError(
            f"threads: {threads} after {_Threads.limit} in one process; give runs of one number to"
            " one command"
        )
    os.environ["PJRT_NPROC"] = str(threads)
    _Threads.limit = threads


class _Threads:
    """The limit of this process, once it is set."""

    limit: int | None = None


def keep_compiled() -> None:
    """Keeps compiled programs in the user's cache, unless JAX was told where to keep them.

    Raises:
      NstyleError: JAX was told to use devices that are not here.
    """
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        raise NstyleError(
            f"JAX_PLATFORMS: there are no devices of {jax.config.jax_platforms!r} here, or JAX is"  # type: ignore[attr-defined]
            " installed without them; cpu is always there"
        ) from error
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

    @classmethod
    def take(cls) -> int:
        """Returns how many there were since the last call."""
        count, cls.count = cls.count, 0
        return count


_Compilations.listen()


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Raises NstyleError where an allocation fails."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise NstyleError(
            "there is not enough memory: take a smaller size, or memory=4GiB and the like, which"
            " evaluates by tiles"
        ) from error


class _Record:
    """A run while it is made: its job, its files, and in the end its outcome.

    Args:
      run: what is to be made.
      batch: with how many runs it is optimised together, itself included.

    Attributes:
      outcome: its `result.json`, or what was wrong with it; None before.
      job: from `job.build`.
      state: where an earlier process left it, or None.
      trace: its rows so far.
    """

    def __init__(self, run: _Run, batch: int) -> None:
        self.run, self._batch = run, batch
        self.outcome: dict[str, Any] | NstyleError | None = None

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """What goes wrong inside is this run's outcome, and of no other."""
        try:
            with _memory_errors():
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
        stale = ("result.json", "scores.json")
        for name in (*store.FILES, *stale, "checkpoint", *_on_the_way(config, self.job.steps)):
            stored.make_way(folder / name)
        stored.write(folder / "config.yaml", to_yaml(config).encode())
        for name in stale:
            (folder / name).unlink(missing_ok=True)
        self.state = kept.state if kept else None
        rows, self._earlier = (kept.rows, kept.seconds) if kept else ([], 0.0)
        self._batch = max(self._batch, kept.batch if kept else 1)
        self._started = time.monotonic()
        self._due = self._started + config.checkpoint_every
        self.trace = files.enter_context(store.Trace(folder / "trace.csv", rows))
        self._board = files.enter_context(
            Board(folder, self.job.steps, len(rows), config.tensorboard)
        )

    def _kept(self) -> store.Checkpoint | None:
        """Returns where an earlier process left the run, if that can be read."""
        blank = functools.partial(blank_state_of, self.job)
        try:
            return store.Checkpoint.read(self._path, blank)
        except stored.DamagedError as error:
            _tell([f"{error}; the run starts again"])
            return None

    def add(self, step: Step) -> None:
        """Writes a step down, and its picture where `save_every` asks for it."""
        picture = functools.partial(picture_of, step, self.job)
        self.trace.append(row(step, self.job))
        self._board.update(self.trace.rows[-1], picture)
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
            written = (*store.FILES, *_on_the_way(self.run.config, step.step))
            self.outcome = {
                "run": store.identity(folder),
                "stop": stop,
                "steps": step.step,
                "best": self.trace.rows[step.best_step],
                **weights_and_references(self.job),
                "seconds": round(self._seconds(), 3),
                "batch": self._batch,
                "compiles": _Compilations.take(),
                "command": self.run.task.command,
                "inputs": self.run.planned.digests,
                "environment": store.environment(),
                "config": deciding(self.run.config),
                "files": {
                    name: stored.digest(folder / name)
                    for name in written
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


def _make(wanted: Sequence[_Run]) -> list[dict[str, Any] | NstyleError]:
    """Makes runs together, from their checkpoints where there are any.

    Returns:
      The `result.json` of each, or what was wrong with it.
    """
    _Compilations.take()
    records = [_Record(run, len(wanted)) for run in wanted]
    with ExitStack() as files:
        for record in records:
            with record.own_errors():
                record.open(files)
        opened = [record for record in records if record.outcome is None]
        try:
            with _memory_errors():
                _optimise(opened)
        except NstyleError as error:
            for record in opened:
                record.outcome = record.outcome or error
    return [record.outcome for record in records if record.outcome is not None]


def _optimise(records: Sequence[_Record]) -> None:
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


def done(config: DictConfig, folder: Path) -> bool:
    """Says whether all that the settings ask for is in a run's folder and may be reused."""
    with suppress(stored.DamagedError):
        result = _reusable(config, folder)
        return result is not None and _scored(config, folder, result)
    return False


def _there(run: _Run) -> dict[str, Any] | None:
    """Returns the result of a run that need not be made, else None; notes what is damaged."""
    try:
        return _reusable(run.config, run.folder)
    except stored.DamagedError as error:
        _tell([f"{error}; the run is made again"])
        return None


def _reusable(config: DictConfig, folder: Path) -> dict[str, Any] | None:
    """Returns the result of a run that need not be made, its files checked; else None.

    Raises:
      DamagedError: it was made, and a file is not as it was written.
    """
    result = store.result(folder) if config.reuse else None
    if result is None:
        return None
    if result["run"] != store.identity(folder):
        raise stored.DamagedError(f"{folder / 'result.json'} is of another run")
    wanted = {*store.FILES, *_on_the_way(config, result["steps"])}
    known = result["files"]
    stored.check(folder, {name: known[name] for name in known if name in wanted})
    return result if wanted <= known.keys() else None


def _on_the_way(config: DictConfig, steps: int) -> list[str]:
    """Returns the names of the pictures that `save_every` asks for, up to a step."""
    every = config.save_every or steps + 1
    return [_step_picture(step) for step in range(every, steps + 1, every)]


def _step_picture(step: int) -> str:
    return f"step_{step:06d}.png"


def _has_scores(run: _Run, result: Mapping[str, Any]) -> bool:
    """Says whether a run has all scores that it is to have; notes what is damaged."""
    try:
        return _scored(run.config, run.folder, result)
    except stored.DamagedError as error:
        _tell([f"{error}; the picture is scored again"])
        return False


def _scored(config: DictConfig, folder: Path, result: Mapping[str, Any]) -> bool:
    if not config.scores:
        return True
    found = store.scores(folder, result)
    if found is None or found["code"] != _scoring_code(config):
        return False
    return scores(config).keys() <= found["scores"].keys()


def _scoring_code(config: DictConfig) -> list[str]:
    """Returns hashes of what the scores of a run depend on, a user's own among them."""
    return [code_version(_SCORING), *code_of(scores(config).values())]


def _write_scores(run: _Run, result: Mapping[str, Any]) -> None:
    """Writes how a result scores; to several style pictures, the mean of each score by shares."""
    config, planned = run.config, run.planned
    image = images.load(run.folder / "result.png")
    content = None if planned.content is None else planned.content.array
    wanted = scores(config)
    styles: list[np.ndarray | None] = [picture.array for picture in planned.styles]
    found = [score(image, content, style, wanted) for style in styles or [None]]
    shares = planned.style_shares or (1.0,)
    written = {
        "scores": {key: _mean([own[key] for own in found], shares) for key in found[0]},
        "measures": described(wanted),
        "picture": result["files"]["result.png"],
        "code": _scoring_code(config),
    }
    stored.write_json(run.folder / "scores.json", "scores", written)


def _mean(values: Sequence[float | None], shares: Sequence[float]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return sum(share * value for share, value in zip(shares, known, strict=True))


def _check_not_input(out: Path, config: DictConfig) -> None:
    """Refuses to write over a picture or weights that the run reads."""
    read = [key for key in PATH_KEYS if key not in TARGET_KEYS]
    inputs = [(key, file) for key in read for file in files(config, key) if file]
    for key, file in inputs:
        both = path_exists(file) and path_exists(str(out))
        if both and out.samefile(Path(file).expanduser()):
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

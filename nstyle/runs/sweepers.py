"""Hydra's plugins: the sweeper that keeps sweeps in the run store, and the checked search."""

import functools
import hashlib
import inspect
import itertools
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import jax
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from nstyle.config import (
    PAIR_KEYS,
    check_overrides,
    choices_of,
    one_line_errors,
    quote,
    read,
    scores,
    shell,
    told,
)
from nstyle.errors import NstyleError, check_choice
from nstyle.files import Json
from nstyle.images.pairs import Pair, pairs_of
from nstyle.objective.memory import automatic
from nstyle.objective.problems import draws_afresh
from nstyle.process.progress import counting, watched
from nstyle.runs import store
from nstyle.runs.finished import done
from nstyle.runs.planning import Kind
from nstyle.runs.resources import limit_threads
from nstyle.runs.sweep import Member, batches, frozen_path, plan_members, write_sweep


class StoreSweeper(Sweeper):
    """Every combination of the swept values, planned as a whole and kept in the run store.

    Args:
      params: what a config sweeps over, by key; the command line goes before it.
    """

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        self._params = params or {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """See Hydra's `Sweeper`."""
        _check_folder(config)
        self._loader = hydra_context.config_loader
        self._config = config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Plans the sweep, launches the runs that are not finished, and returns their results.

        Raises:
          NstyleError: a run is not possible, and then none is started; or runs failed, and then the
            others were made.
        """
        if self._in_this_process():
            limit_threads(self._config.threads)
        members = self._members(arguments)
        batch_size = self._batch_size(members[0].config.batch)
        folder = write_sweep(
            members,
            command_line(self._config, arguments, "--multirun"),
            [command_line(self._config, member.overrides) for member in members],
        )
        by_folder = {member.folder: member for member in members}
        wanted = [member for member in by_folder.values() if not done(member.config, member.folder)]
        kept = len(by_folder) - len(wanted)
        print(f"nstyle: {len(by_folder)} runs, {kept} of them there already", file=sys.stderr)
        try:
            returned = self._launch(folder, batches(wanted, batch_size)) if wanted else []
        except KeyboardInterrupt as interrupt:
            ended = kept + _finished(wanted)
            raise KeyboardInterrupt(
                f"interrupted; {ended} of {len(by_folder)} runs done; the same command goes on"
            ) from interrupt
        failures = [value for value in returned if isinstance(value, NstyleError)]
        if failures:
            raise NstyleError(f"{len(failures)} of {len(wanted)} runs failed, first: {failures[0]}")
        print(f"sweep {folder}  {len(by_folder)} runs; look at them: nstyle report {folder}")
        return returned

    def _in_this_process(self) -> bool:
        return str(self._config.hydra.launcher._target_).endswith(".BasicLauncher")

    def _members(self, arguments: list[str]) -> list[Member]:
        settings = dict(self._params) | dict(argument.split("=", 1) for argument in arguments)
        if self._config.threads is None and not self._in_this_process():
            settings["threads"] = "1"  # workers share the cores
        given = read(f"{key}={value}" for key, value in settings.items())
        check_overrides(given)
        choices = choices_of(given)
        swept = {key for key, values in choices.items() if len(values) > 1}
        for key in sorted({"threads", "batch", *PAIR_KEYS} & swept):
            raise NstyleError(f"{key}: one value for all runs of a sweep, not several")
        pairs = self._pairs(choices)
        axes = [
            [[f"{key}={value}"] for value in values]
            for key, values in choices.items()
            if not (pairs and key in (*PAIR_KEYS, *Pair._fields))
        ]
        if pairs:
            axes.insert(0, pairs)
            swept |= {*Pair._fields}
        jobs = [list(itertools.chain(*parts)) for parts in itertools.product(*axes)]
        configs = [self._composed(job) for job in watched(jobs, "composing")]
        return plan_members(jobs, swept, configs)

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        with one_line_errors():
            config = self._loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            del config["hydra"]
        return config

    def _pairs(self, choices: dict[str, list[str]]) -> list[list[str]]:
        """Returns the overrides of each pair of pictures; none where no setting names pairs.

        Args:
          choices: the values of each key that is given; an experiment may name pairs too.
        """

        def composed(left_out: Sequence[str] = ()) -> Json:
            kept = [f"{key}={choices[key][0]}" for key in choices if key not in left_out]
            return cast(Json, OmegaConf.to_container(self._composed(kept), resolve=True))

        values = composed()
        pairs = pairs_of(*(values[key] for key in PAIR_KEYS))
        if not pairs:
            return []
        for key in Pair._fields:
            if values[key] is not None:
                by = ", ".join(other for other in PAIR_KEYS if values[other] is not None)
                raise NstyleError(f"{key}: {values[key]} beside {by}, which says it too; give one")
        # Where an experiment names pairs, the command of a single run is to say that it has none.
        of_experiment = composed(left_out=PAIR_KEYS)
        none = [f"{key}=null" for key in PAIR_KEYS if of_experiment[key] is not None]
        return [
            [*(f"{key}={quote(file)}" for key, file in pair._asdict().items()), *none]
            for pair in pairs
        ]

    def _batch_size(self, batch: int | str | None) -> Callable[[Kind], int]:
        """Returns how many runs of a kind are optimised together, as the setting `batch` says."""
        if batch == "auto" and not self._in_this_process():
            raise NstyleError(
                "batch: auto needs the devices that runs are made on in this process; give a"
                " number, or no hydra/launcher"
            )
        if batch is None:
            on_gpu = self._in_this_process() and jax.default_backend() == "gpu"
            batch = "auto" if on_gpu else 1

        def size(kind: Kind) -> int:
            by_tiles = any(size.tile is not None for size in kind.sizes)
            if by_tiles or draws_afresh(kind.structure, kind.solver):
                return 1
            if isinstance(batch, int):
                return batch
            shape = kind.sizes[-1].shape
            return automatic(kind.structure, shape, kind.solver, jax.local_devices())

        return size

    def _launch(self, folder: Path, together: Sequence[Sequence[Member]]) -> list[Any]:
        """Returns what the task returned for each run."""
        batch = []
        for members in together:
            frozen = ",".join(
                quote(str(frozen_path(folder, member).absolute())) for member in members
            )
            batch.append([*members[0].overrides, f"frozen=[{frozen}]"])
        wanted = [member for members in together for member in members]
        with ExitStack() as around:
            if not self._in_this_process():
                count = functools.partial(_finished, wanted)
                around.enter_context(counting(count, len(wanted), "runs"))
                around.enter_context(warnings.catch_warnings())
                # Launchers fork only to start another program at once.
                warnings.filterwarnings("ignore", r"os\.fork\(\)", RuntimeWarning)
            try:
                results = self._launcher.launch(batch, initial_job_idx=0)
            except Exception as error:
                if self._in_this_process():
                    raise
                why = " ".join(str(error).split())[:200]
                raise NstyleError(
                    f"hydra/launcher: a worker ended ({type(error).__name__}: {why});"
                    f" {_finished(wanted)} of {len(wanted)} runs done; the same command goes on"
                ) from error
        return [value for result in results for value in result.return_value]


def _check_folder(config: DictConfig) -> None:
    """Refuses another folder than that of the run store."""
    for override in config.hydra.overrides.hydra:
        if override.startswith("hydra.sweep."):
            key = override.partition("=")[0]
            raise NstyleError(f"{key}: sweeps lie in runs_dir; write runs_dir=FOLDER")


def _finished(members: Sequence[Member]) -> int:
    return sum(store.finished(member.folder) is not None for member in members)


class CheckedSearch(Sweeper):
    """Optuna's search, refused where it could make nothing of what its runs return.

    What it finds, the front or the best trial, is in `runs/searches/<name>-<hash>/`, the hash that
    of the command.

    Args:
      **options: of Hydra's `OptunaSweeper`.
    """

    def __init__(self, **options: Any) -> None:
        from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper

        self._search = OptunaSweeper(**options)
        given = options["direction"]
        several = (
            list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        )
        self._directions = [str(getattr(direction, "name", direction)) for direction in several]
        self._name = options.get("study_name")

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """See Hydra's `Sweeper`."""
        _check_folder(config)
        if not config.scores:
            raise NstyleError("scores: false, but a search goes by the scores in objectives")
        made = scores(config)
        for objective in config.objectives:
            check_choice("objectives", objective, made)
        fitting = [
            "maximize" if made[objective].higher_is_better else "minimize"
            for objective in config.objectives
        ]
        if self._directions != fitting:
            raise NstyleError(
                f"hydra.sweeper.direction: {', '.join(self._directions)} for the objectives"
                f" {', '.join(config.objectives)}; write"
                f" hydra.sweeper.direction=[{','.join(fitting)}]"
            )
        asked = json.dumps(list(config.hydra.overrides.task))
        name = f"{self._name or 'search'}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"
        self._folder = Path(config.runs_dir).expanduser() / "searches" / name
        with open_dict(config), read_write(config):
            config.hydra.sweep.dir = str(self._folder)
        self._objectives = list(config.objectives)
        self._search.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """See Hydra's `Sweeper`; prints what was found, and where it is."""
        self._folder.mkdir(parents=True, exist_ok=True)
        returned = self._search.sweep(arguments)
        path = self._folder / "optimization_results.yaml"
        found = cast(Json, OmegaConf.to_container(OmegaConf.load(path)))
        best = found.get("solutions") or [
            {"params": found["best_params"], "values": [found["best_value"]]}
        ]
        for solution in best:
            values = zip(self._objectives, solution["values"], strict=True)
            told = [*solution["params"].items(), *values]
            print("  ".join(f"{key}={_short(value)}" for key, value in told))
        what = "the best trial" if "best_value" in found else f"the front of {len(best)}"
        print(f"search {path}  {what}; all trials: nstyle report {self._folder.parents[1]}")
        return returned


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def register() -> None:
    """Lets Hydra know these sweepers; what `hydra/sweeper=optuna` names is then the checked search.

    The other one, `store`, is what `configs/config.yaml` chooses.
    """
    import hydra_plugins._nstyle as own

    plugins, configs = Plugins.instance(), ConfigStore.instance()
    for sweeper in (own.StoreSweeper, own.CheckedSearch):
        plugins.register(sweeper)
    if "optuna.yaml" in configs.list("hydra/sweeper"):
        options = configs.load("hydra/sweeper/optuna.yaml").node
        options._target_ = "hydra_plugins._nstyle.CheckedSearch"
        # From Hydra 1.4 on a name that is taken is given away on request alone.
        known = inspect.signature(configs.store).parameters
        request: Json = {"replace": True} if "replace" in known else {}
        configs.store("optuna", options, "hydra/sweeper", provider="nstyle", **request)


def own_configs(config: DictConfig) -> Path | None:
    """Returns the folder of `--config-dir`, or None."""
    for source in config.hydra.runtime.config_sources:
        if source.provider == "command-line":
            return Path(source.path)
    return None


def command_line(config: DictConfig, overrides: Sequence[str], *flags: str) -> str:
    """Returns the command that composes `overrides` again, for a shell.

    Args:
      config: with Hydra's own settings.
      overrides: the user's, and `frozen`, which is left out.
      *flags: `--multirun` for a sweep, whose launcher is then named too.
    """
    own = own_configs(config)
    folder = ["--config-dir", str(own)] if own is not None else []
    settings = [told(override) for override in overrides if not override.startswith("frozen=")]
    if flags:
        of_hydra = OmegaConf.to_container(config.hydra.overrides.hydra)
        assert isinstance(of_hydra, list)
        settings += [override for override in of_hydra if not override.startswith("hydra.mode=")]
    return shell(["nstyle", *flags, *folder, *settings])

"""Sweeps: all runs are composed, checked and written down before the first one starts.

runs/sweeps/<experiment>-<hash>/
    sweep.json        the command, the parameters, the runs, their folders and own commands
    configs/*.yaml    the settings of each run as they were composed; these are what is run

The same command goes on where the sweep stopped: finished runs are not made again. Runs that differ
in numbers alone may be optimised together, see the setting `batch`.
"""

import functools
import hashlib
import inspect
import itertools
import json
import math
import os
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from nstyle.config import (
    PAIR_KEYS,
    PATH_KEYS,
    check_overrides,
    from_yaml,
    one_line_errors,
    quote,
    read,
    shell,
    to_yaml,
    told,
    values_of,
)
from nstyle.errors import NstyleError
from nstyle.images.pairs import Pair, pairs_of
from nstyle.objective.memory import automatic
from nstyle.objective.problems import draws_afresh
from nstyle.process.progress import Place, counting, watched
from nstyle.runs import store, stored
from nstyle.runs.finished import done, folder_of
from nstyle.runs.planning import Kind, Plan, kind_of, plan
from nstyle.runs.recording import Task
from nstyle.runs.resources import limit_threads


class Member(NamedTuple):
    """One run of a sweep.

    Attributes:
      overrides: what the launcher composes it from.
      settings: the parameters' values, as the user wrote them.
      config: the settings it is run with.
      folder: where its results go.
      kind: of those that it may be optimised together with.
    """

    overrides: tuple[str, ...]
    settings: dict[str, str]
    config: DictConfig
    folder: Path
    kind: Kind


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
        for override in config.hydra.overrides.hydra:
            if override.startswith("hydra.sweep."):
                key = override.partition("=")[0]
                raise NstyleError(f"{key}: sweeps lie in runs_dir; write runs_dir=FOLDER")
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
        print(f"sweep {folder}  {len(by_folder)} runs; look at them: nstyle-report {folder}")
        return returned

    def _in_this_process(self) -> bool:
        return str(self._config.hydra.launcher._target_).endswith(".BasicLauncher")

    def _members(self, arguments: list[str]) -> list[Member]:
        settings = dict(self._params) | dict(argument.split("=", 1) for argument in arguments)
        if self._config.threads is None and not self._in_this_process():
            settings["threads"] = "1"  # workers share the cores
        own = own_configs(self._config)
        given = read([f"{key}={value}" for key, value in settings.items()], own)
        check_overrides(given, own)
        choices = {
            override.get_key_element(): values_of(override)
            for override in OverridesParser.create().parse_overrides(given)
        }
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

        def composed(left_out: Sequence[str] = ()) -> dict[str, Any]:
            kept = [f"{key}={choices[key][0]}" for key in choices if key not in left_out]
            return cast(dict[str, Any], OmegaConf.to_container(self._composed(kept), resolve=True))

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
            frozen = ",".join(quote(str(_frozen(folder, member).absolute())) for member in members)
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


def _finished(members: Sequence[Member]) -> int:
    return sum(store.finished(member.folder) is not None for member in members)


class CheckedSearch(Sweeper):
    """Optuna's search, refused where it could make nothing of what its runs return.

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

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """See Hydra's `Sweeper`."""
        objectives = config.objectives
        known = {*self._directions} <= {"minimize", "maximize"}
        if len(self._directions) != len(objectives) or not known:
            fitting = ",".join(["minimize"] * len(objectives))
            raise NstyleError(
                f"hydra.sweeper.direction: {', '.join(self._directions)} for the objectives"
                f" {', '.join(objectives)}; write hydra.sweeper.direction=[{fitting}]"
            )
        if not config.scores:
            raise NstyleError("scores: false, but a search goes by the scores in objectives")
        self._search.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """See Hydra's `Sweeper`."""
        return self._search.sweep(arguments)


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
        request: dict[str, Any] = {"replace": True} if "replace" in known else {}
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


def plan_members(
    jobs: Sequence[Sequence[str]], swept: set[str], configs: Sequence[DictConfig]
) -> list[Member]:
    """Checks every run and finds its folder.

    Args:
      jobs: the overrides of each run.
      swept: the keys that differ between runs.
      configs: the composed settings of each run.

    Raises:
      NstyleError: naming the first run that is not possible.
    """
    plans: list[Plan] = []
    settings = _settings(jobs, swept, configs)
    for config in watched(configs, "checking"):
        try:
            plans.append(plan(config))
        except NstyleError as error:
            values = " ".join(settings[len(plans)].values())
            raise NstyleError(f"run {len(plans) + 1} of {len(jobs)} ({values}): {error}") from error
    members = []
    firsts: dict[str, Member] = {}  # of one content, whatever the names, is one run
    for job, own, config, planned in zip(jobs, settings, configs, plans, strict=True):
        folder = folder_of(config, planned)
        member = Member(tuple(job), own, config, folder, kind_of(planned))
        first = firsts.setdefault(store.identity(folder), member)
        members.append(member._replace(config=first.config, folder=first.folder))
    return members


def batches(members: Sequence[Member], size: Callable[[Kind], int]) -> list[list[Member]]:
    """Returns the runs that are made together: of one kind, about as many in each batch.

    Batches of one length share a compiled step; they come in the order of their first members.

    Args:
      members: runs that are not finished.
      size: (kind) -> most runs of that kind in a batch.
    """
    alike: dict[Kind, list[int]] = defaultdict(list)
    for i, member in enumerate(members):
        alike[member.kind].append(i)
    found = []
    for kind, own in alike.items():
        count = math.ceil(len(own) / size(kind))
        most = math.ceil(len(own) / count)
        found += [own[start : start + most] for start in range(0, len(own), most)]
    return [[members[i] for i in batch] for batch in sorted(found)]


def _settings(
    jobs: Sequence[Sequence[str]], swept: set[str], configs: Sequence[DictConfig]
) -> list[dict[str, str]]:
    """Returns for each run the values of the swept keys, numbers short.

    Files are told by their names, and with their folders where names alone do not tell them apart.
    """

    def files(value: Any, name: Callable[[str], str]) -> str:
        if isinstance(value, ListConfig):
            return f"[{','.join(files(one, name) for one in value)}]"
        return "null" if value is None else name(value)

    def briefly_and_in_full(key: str, value: str, config: DictConfig) -> tuple[str, str]:
        if key in PATH_KEYS:
            return files(config[key], lambda file: Path(file).name), files(config[key], str)
        try:
            return f"{float(value):g}", value
        except ValueError:
            return value, value

    found = [
        {
            key: briefly_and_in_full(key, value, config)
            for key, _, value in (override.partition("=") for override in job)
            if key in swept
        }
        for job, config in zip(jobs, configs, strict=True)
    ]
    names = {(key, *both) for own in found for key, both in own.items()}
    meanings = Counter((key, brief) for key, brief, _ in names)
    return [
        {
            key: full if key in PATH_KEYS and meanings[key, brief] > 1 else brief
            for key, (brief, full) in own.items()
        }
        for own in found
    ]


def write_sweep(members: Sequence[Member], command: str, commands: Sequence[str]) -> Path:
    """Writes a sweep's folder and returns it, the same one for the same runs.

    Args:
      members: its runs.
      command: that makes it.
      commands: that make each run by itself.
    """
    name = str(members[0].config.experiment or "sweep")
    identity = json.dumps([name, [member.folder.name for member in members]])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    folder = members[0].folder.parent / "sweeps" / f"{name}-{digest}"
    for member in members:
        stored.write(_frozen(folder, member), to_yaml(member.config).encode())
    parameters: dict[str, dict[str, None]] = defaultdict(dict)
    for member in members:
        for key, value in member.settings.items():
            parameters[key][value] = None
    content = {
        "name": name,
        "command": command,
        "parameters": {key: list(values) for key, values in parameters.items()},
        "runs": [
            {
                "folder": os.path.relpath(member.folder, folder),
                "settings": member.settings,
                "command": own,
            }
            for member, own in zip(members, commands, strict=True)
        ],
    }
    stored.write_json(folder / "sweep.json", "sweep", content)
    _sweep_of.cache_clear()
    return folder


def _frozen(folder: Path, member: Member) -> Path:
    return folder / "configs" / f"{member.folder.name}.yaml"


def task_of(frozen: Path) -> Task:
    """Returns the run of a frozen config, with where it stands in its sweep by what is on disk."""
    found = _sweep_of(frozen.parent.parent)
    own = found.runs[frozen.stem]
    label = " ".join(f"{key}={value}" for key, value in own["settings"].items())
    seconds = found.seconds()
    mean = sum(seconds) / len(seconds) if seconds else None
    config = from_yaml(frozen.read_text())
    return Task(config, own["command"], Place(len(seconds), len(found.runs), label, mean))


class _Sweep:
    """The runs of a sweep as this process knows them; each result is read once.

    Args:
      folder: of the sweep.

    Attributes:
      runs: what `sweep.json` says of each, by the name of its folder.
    """

    def __init__(self, folder: Path) -> None:
        found = stored.read_json(folder / "sweep.json", "sweep")
        assert found is not None
        self.runs = {Path(run["folder"]).name: run for run in found["runs"]}
        self._open = {name: folder / run["folder"] for name, run in self.runs.items()}
        self._seconds: list[float] = []

    def seconds(self) -> list[float]:
        """Returns the time of each finished run, its share where several were made together."""
        for name, folder in list(self._open.items()):
            result = store.finished(folder)
            if result is not None:
                self._seconds.append(result["seconds"] / result["batch"])
                del self._open[name]
        return self._seconds


@functools.lru_cache(maxsize=1)
def _sweep_of(folder: Path) -> _Sweep:
    return _Sweep(folder)

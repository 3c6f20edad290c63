"""Sweeps: all runs are composed, checked and written down before the first one starts.

runs/sweeps/<experiment>-<hash>/
    sweep.json        the command, the parameters, the runs, their folders and own commands
    configs/*.yaml    the settings of each run as they were composed; these are what is run

The same command goes on where the sweep stopped: finished runs are not made again. Runs that differ
in numbers alone may be optimised together, see the setting `batch`.
"""

import functools
import hashlib
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig

from nstyle.config import PATH_KEYS, run_settings, to_yaml
from nstyle.errors import NstyleError
from nstyle.process.progress import Place, watched
from nstyle.runs import store, stored
from nstyle.runs.finished import folder_of
from nstyle.runs.planning import Kind, Plan, kind_of, plan
from nstyle.runs.recording import Task


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
            run = f"run {len(plans) + 1} of {len(jobs)}" + (f" ({values})" if values else "")
            raise NstyleError(f"{run}: {error}") from error
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
        stored.write(frozen_path(folder, member), to_yaml(member.config).encode())
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


def frozen_path(folder: Path, member: Member) -> Path:
    """Returns where the settings of a run of a sweep are kept."""
    return folder / "configs" / f"{member.folder.name}.yaml"


def task_of(frozen: Path) -> Task:
    """Returns the run of a frozen config, with where it stands in its sweep by what is on disk."""
    found = _sweep_of(frozen.parent.parent)
    own = found.runs[frozen.stem]
    label = " ".join(f"{key}={value}" for key, value in own["settings"].items())
    seconds = found.seconds()
    mean = sum(seconds) / len(seconds) if seconds else None
    config = run_settings(frozen)
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

"""MLflow: a run in the store that MLFLOW_TRACKING_URI names, else in `mlflow.db`."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from nstyle.files import cache_dir
from nstyle.trackers.base import Followed, Log, Tracker

#: Characters that no name may have there.
_REFUSED = re.compile(r"[^\w\-./ :]")

#: Most parameters of a call.
_PARAMS = 100


@dataclass(frozen=True)
class MLflow(Tracker):
    """A run of an MLflow experiment.

    Attributes:
      project: the experiment.
    """

    name = "mlflow"
    project: str = "nstyle"

    def open(self, run: Followed) -> Log:
        """Returns a log, of the same run there when this one goes on."""
        mlflow = self._library("mlflow")
        # The first process makes the store; others that begin beside it would find half of one.
        with FileLock(_lock()):
            client = mlflow.MlflowClient()
            found = client.get_experiment_by_name(self.project)
            experiment = found.experiment_id if found else client.create_experiment(self.project)
            same = client.search_runs([experiment], f"tags.nstyle = '{run.identity}'")
        for own in same if not run.first else []:
            client.delete_run(own.info.run_id)
        if run.first and same:
            identity = same[0].info.run_id
            client.update_run(identity, "RUNNING")
        else:
            tags = {"nstyle": run.identity}
            identity = client.create_run(experiment, tags=tags, run_name=run.name).info.run_id
        known = same[0].data.params if run.first and same else {}
        settings = {_name(name): str(value) for name, value in run.settings.items()}
        params = [
            mlflow.entities.Param(name, value)
            for name, value in settings.items()
            if name not in known
        ]
        for begin in range(0, len(params), _PARAMS):
            client.log_batch(identity, params=params[begin : begin + _PARAMS])
        return _Run(client, identity, mlflow.entities.Metric)


class _Run(Log):
    def __init__(self, client: Any, identity: str, metric: Any) -> None:
        self._client, self._identity, self._metric = client, identity, metric

    def add(
        self, step: int, numbers: Mapping[str, float], picture: np.ndarray | None = None
    ) -> None:
        now = round(1000 * time.time())
        metrics = [self._metric(_name(name), value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self._identity, metrics)
        if picture is not None:
            self._client.log_image(self._identity, picture, key="picture", step=step)

    def close(self, is_whole: bool) -> None:
        self._client.set_terminated(self._identity, "FINISHED" if is_whole else "KILLED")


def _name(name: str) -> str:
    return _REFUSED.sub("_", name)


def _lock() -> Path:
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "mlflow.lock"

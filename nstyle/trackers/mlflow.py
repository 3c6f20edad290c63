"""MLflow: a run in the store that MLFLOW_TRACKING_URI names, else in `mlflow.db`."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nstyle.trackers.base import Followed, Log, Tracker

#: Characters that no name may have there.
_REFUSED = re.compile(r"[^\w\-./ :]")


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
        client = mlflow.MlflowClient()
        found = client.get_experiment_by_name(self.project)
        experiment = found.experiment_id if found else client.create_experiment(self.project)
        same = client.search_runs([experiment], f"tags.nstyle = '{run.identity}'")
        if same:
            identity = same[0].info.run_id
            client.update_run(identity, "RUNNING")
        else:
            tags = {"nstyle": run.identity}
            identity = client.create_run(experiment, tags=tags, run_name=run.name).info.run_id
            for name, value in run.settings.items():
                client.log_param(identity, _name(name), value)
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

    def close(self) -> None:
        self._client.set_terminated(self._identity)


def _name(name: str) -> str:
    return _REFUSED.sub("_", name)

"""Weights & Biases."""

import os
from dataclasses import dataclass

from nstyle.trackers.base import Followed, Log, RunLog, Tracker


@dataclass(frozen=True)
class WandB(Tracker):
    """A run of Weights & Biases; without a login it is kept in `wandb/`, for `wandb sync`.

    Attributes:
      project: where it stands there.
    """

    name = "wandb"
    project: str = "nstyle"

    def open(self, run: Followed) -> Log:
        """Returns a log, of the same run there when this one goes on."""
        wandb = self._library("wandb")
        quiet = wandb.Settings(silent=True, console="off")
        mode = os.environ.get("WANDB_MODE")
        if mode is None and wandb.run is None and not wandb.login(prompt=False):
            mode = "offline"
        return _Run(
            wandb.init(
                project=self.project,
                id=run.identity,
                name=run.name,
                config=dict(run.settings),
                mode=mode,
                resume="allow" if run.first else None,
                reinit="create_new",  # runs of a batch are open together
                settings=quiet,
            ),
            wandb.Image,
        )


class _Run(RunLog):
    def close(self, is_whole: bool) -> None:
        self._run.finish(exit_code=0 if is_whole else 1)

"""Weights & Biases."""

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
        has_login = wandb.login(prompt=False)
        return RunLog(
            wandb.init(
                project=self.project,
                id=run.identity,
                name=run.name,
                config=dict(run.settings),
                mode=None if has_login else "offline",
                resume="allow",
                reinit="create_new",  # runs of a batch are open together
                settings=quiet,
            ),
            wandb.Image,
        )

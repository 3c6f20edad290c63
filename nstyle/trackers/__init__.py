"""Where a run's numbers and pictures go besides its own folder, while it is made."""

from nstyle.trackers.base import Followed, Log, NoTracker, Tracker
from nstyle.trackers.mlflow import MLflow
from nstyle.trackers.tensorboard import TensorBoard
from nstyle.trackers.trackio import Trackio
from nstyle.trackers.wandb import WandB

__all__ = ["Followed", "Log", "MLflow", "NoTracker", "TensorBoard", "Tracker", "Trackio", "WandB"]

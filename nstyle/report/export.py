"""The command `nstyle export`: finished runs into a tracker, as if it had followed them."""

import functools
from pathlib import Path

import pandas as pd

from nstyle import images
from nstyle.config import compose, flat, record, use_folder
from nstyle.errors import NstyleError
from nstyle.files import path_exists, user_path
from nstyle.process.command import LineParser, run_command
from nstyle.process.progress import watched
from nstyle.report.sweeps import Member, read
from nstyle.runs import store, stored
from nstyle.runs.recording import pictured_steps
from nstyle.runs.tracking import Tracking, scores_row
from nstyle.trackers import Followed, NoTracker, Tracker


def main() -> None:
    """Runs `nstyle export` and exits: 0 done, 2 wrong input, 130 interrupted."""
    run_command("nstyle export", _main)


def _main(arguments: list[str]) -> None:
    parser = LineParser("nstyle export", description="Writes finished runs into a tracker.")
    parser.add_argument(
        "words", nargs="+", help="folders of runs or sweeps; tracker=NAME, tracker.project=NAME"
    )
    parser.add_argument("-cd", "--config-dir", type=Path, help="YAML files and modules of your own")
    options = parser.parse_args(arguments)
    if options.config_dir is not None:
        use_folder(user_path("--config-dir", options.config_dir))
    settings = [
        word for word in options.words if word.startswith("tracker") and not path_exists(word)
    ]
    folders = [word for word in options.words if word not in settings]
    tracker = record(compose(**dict(word.partition("=")[::2] for word in settings)), Tracker)
    if isinstance(tracker, NoTracker):
        raise NstyleError("tracker: none is given; add tracker=wandb, for example")
    found = [run for folder in folders for run in read(user_path("run", folder)).done]
    runs = list({run.folder.resolve(): run for run in found}.values())
    if not runs:
        raise NstyleError(f"{', '.join(folders)}: there is no finished run")
    for run in watched(runs, "exporting"):
        export(run, tracker)
    print(f"{len(runs)} runs to {tracker.name}")


def export(run: Member, tracker: Tracker) -> None:
    """Gives a tracker the trace, pictures and scores of a finished run.

    Pictures are those that `save_every` kept, and the result at the last step.

    Args:
      run: of `sweeps.read`.
      tracker: where to.

    Raises:
      NstyleError: a file of the run is damaged, or the tracker fails.
    """
    folder, result = run.folder, run.result
    assert result is not None
    stored.check(folder, result["files"])
    last = result["steps"]
    pictures = pictured_steps(result["files"]) | {last: "result.png"}
    rows = pd.read_csv(folder / "trace.csv").to_dict("records")
    with Tracking(tracker) as tracking:
        identity, settings = store.identity(folder), flat(result["config"])
        tracking.begin(Followed(folder.name, identity, folder, settings), steps=1)
        for row in rows:
            name = pictures.get(row["step"])
            tracking.add(row, functools.partial(images.load, folder / name) if name else None)
        tracking.add(scores_row(run.scores, last))
    if tracking.failure is not None:
        raise NstyleError(f"{folder}: tracker={tracker.name}: {tracking.failure}")

r"""Every style loss on the same pictures, at equal content, judged by a network not optimised.

    python experiments/losses/compare.py                            # what comes with the project
    python experiments/losses/compare.py --tuning cup.jpg swirls.jpg --pair photo.jpg art.jpg \
        --pair photo.jpg other.jpg --losses gram,nnst,mmd.kernel=gaussian size=96 steps=60
    python experiments/losses/compare.py --seeds 2 init=noise

A style weight means something else to each loss, so each gets the same search: its default weight
times each of `--factors`, on one pair that is used for nothing else. Of these, the weight whose
LPIPS to the photograph is nearest to that of the first loss at its default weight is taken to the
other pairs. There the losses are compared with the first one, paired by pictures and seed, by
scores from AlexNet. What is written `name=value` is a setting of every run.

Writes into `--out`, and makes no run twice, so that an interrupted comparison goes on:

    tuning.csv      content and style scores of every loss at every weight, and which was chosen
    runs.csv        a row for each run of the evaluation
    findings.csv    a row for each loss and score: mean, difference to the first loss, p after Holm
    sheet.jpg       the first pair by each loss at its tuned weight
    runs            the runs; `runs/sweeps/*/index.html` are their pages
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import skimage.data
from sheet import every_loss, settings_of, sheet

from nstyle import images, report, scores, statistics
from nstyle.config import PATH_KEYS, compose, quote
from nstyle.errors import NstyleError
from nstyle.files import write_atomic
from nstyle.job import build, plan, run
from nstyle.session import perform
from nstyle.sweep import plan_members, task_of, write_sweep

PHOTOGRAPHS = Path(skimage.data.__file__).parent
PAINTINGS = Path(__file__).parents[1] / "demo" / "styles"

#: What says that two results are as close to the photograph.
CONTENT = "lpips_content"

#: What losses are compared by.
SCORES = ("style_gram", "style_frechet", CONTENT)

TUNING_SEED = 0
WARM_UP, ROUNDS = 3, 9  # first steps, which compile, and those that are timed


class Setting(NamedTuple):
    """What differs between runs."""

    loss: str
    weight: float  #: style_weight
    pair: tuple[str, str]  #: files of the photograph and the painting
    seed: int

    def of_run(self) -> dict[str, str]:
        """Returns it as settings of a run."""
        content, style = self.pair
        return settings_of(self.loss) | {
            "style_weight": f"{self.weight:g}",
            "content": content,
            "style": style,
            "seed": str(self.seed),
        }


def performed(
    settings: Sequence[Setting], of_all: Mapping[str, str], compared: Set[str]
) -> pd.DataFrame:
    """Makes the runs that are not there yet, and their page.

    Args:
      settings: of each run.
      of_all: settings that the runs share.
      compared: those that the page is about, beside the loss.

    Returns:
      The page's table: a row for each run, with `style_loss`, what is compared, and the scores.
    """
    own = [setting.of_run() | dict(of_all) for setting in settings]
    jobs = [
        [f"{key}={quote(value) if key in PATH_KEYS else value}" for key, value in of_run.items()]
        for of_run in own
    ]
    planned = plan_members(jobs, {*compared}, [compose(**of_run) for of_run in own])
    members = [
        member._replace(settings={"style_loss": setting.loss} | member.settings)
        for setting, member in zip(settings, planned, strict=True)
    ]
    commands = [shlex.join(["nstyle", *job]) for job in jobs]
    folder = write_sweep(members, shlex.join(["python", *sys.argv]), commands)
    for member in members:
        done = perform(*task_of(folder / "configs" / f"{member.folder.name}.yaml"))
        if done.stop == "interrupted":
            raise KeyboardInterrupt
    page, *_ = report.write(folder)
    print(f"page    {page}", flush=True)
    return report.table(report.read(folder))


def choose(tuning: pd.DataFrame, target: float) -> pd.DataFrame:
    """Returns for each loss its row nearest to `target` in content.

    Args:
      tuning: a row for each loss and weight.
      target: the content score that all should have.

    Returns:
      Those rows by loss, with `reached`: whether the target lies between scores of the loss.
    """
    by_loss = tuning.assign(off=(tuning[CONTENT] - target).abs()).groupby(
        "style_loss", observed=True
    )
    chosen = tuning.loc[by_loss["off"].idxmin()].set_index("style_loss")
    lowest, highest = by_loss[CONTENT].min(), by_loss[CONTENT].max()
    return chosen.assign(reached=(lowest <= target) & (target <= highest))


def seconds_per_step(settings: Sequence[Setting], of_all: Mapping[str, str]) -> dict[str, float]:
    """Returns how long a step of each loss takes in parts of the first one's, timed in turns."""
    going = {}
    for setting in settings:
        config = compose(**setting.of_run() | dict(of_all) | {"steps": str(ROUNDS + WARM_UP)})
        going[setting.loss] = run(build(plan(config)))
        for _ in range(WARM_UP):
            next(going[setting.loss])
    ratios: dict[str, list[float]] = {loss: [] for loss in going}
    for _ in range(ROUNDS):
        seconds = {}
        for loss, moments in going.items():
            began = time.perf_counter()
            next(moments)
            seconds[loss] = time.perf_counter() - began
        for loss, took in seconds.items():
            ratios[loss].append(took / seconds[settings[0].loss])
    return {loss: float(np.median(found)) for loss, found in ratios.items()}


def findings(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each loss and score: the mean, and the paired difference to the first loss.

    Args:
      runs: a row for each run, with the columns style_loss, content, style, seed and `SCORES`.
    """
    means = statistics.summary(runs, "style_loss", SCORES).rename(columns={"level": "style_loss"})
    compared = statistics.compare(runs, "style_loss", SCORES, [*statistics.PAIR, "seed"])
    compared["p_holm"] = statistics.holm(compared["p"].to_numpy(float))
    differences = compared.rename(columns={"level": "style_loss"}).rename(
        columns={"low": "difference_low", "high": "difference_high"}
    )
    kept = ["difference", "difference_low", "difference_high", "percent", "cohens_d", "p", "p_holm"]
    return means.drop(columns="parameter").merge(
        differences[["style_loss", "score", *kept]], on=["style_loss", "score"], how="left"
    )


def write(path: Path, frame: pd.DataFrame) -> None:
    """Writes a table as CSV, and prints it."""
    print(frame.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print(f"table   {path}", flush=True)
    write_atomic(path, frame.to_csv(index=False, float_format="%.6g").encode())


def compare(options: argparse.Namespace) -> None:
    """Tunes, evaluates and writes what was found."""
    out: Path = options.out
    of_all = options.settings | {"runs_dir": str(out / "runs")}
    default = float(compose().style_weight)
    first, *_ = options.losses
    tuning = performed(
        [
            Setting(loss, default * factor, options.tuning, TUNING_SEED)
            for loss in options.losses
            for factor in options.factors
        ],
        of_all,
        {"content", "style", "style_weight"},
    )
    tuning["style_weight"] = tuning["style_weight"].astype(float)
    at_default = (tuning["style_loss"] == first) & np.isclose(tuning["style_weight"], default)
    target = float(tuning.loc[at_default, CONTENT].item())
    chosen = choose(tuning, target)
    tuned = chosen["style_weight"]
    tuning["chosen"] = tuning["style_weight"] == tuning["style_loss"].map(tuned).astype(float)
    write(out / "tuning.csv", tuning[["style_loss", "style_weight", *SCORES, "chosen"]])
    missed = ", ".join(chosen.index[~chosen["reached"]]) or "none"
    print(f"target  {CONTENT} {target:.4f}; not reached by: {missed}", flush=True)

    settings = [
        Setting(loss, float(tuned[loss]), pair, seed)
        for loss in options.losses
        for pair in options.pair
        for seed in range(TUNING_SEED + 1, TUNING_SEED + 1 + options.seeds)
    ]
    runs = performed(settings, of_all, {"content", "style", "seed"})
    runs["style_weight"] = runs["style_loss"].map(tuned).astype(float)
    columns = ["style_loss", "style_weight", *statistics.PAIR, "seed", *scores.SCORES]
    write_atomic(out / "runs.csv", runs[columns].to_csv(index=False, float_format="%.6g").encode())

    of_first_pair = settings[:: len(options.pair) * options.seeds]
    found = findings(runs)
    found.insert(1, "factor", found["style_loss"].map(tuned).astype(float) / default)
    ratios = seconds_per_step(of_first_pair, of_all)
    write(out / "findings.csv", found.assign(time_per_step=found["style_loss"].map(ratios)))

    content, style = (images.load(path, of_all["size"]) for path in options.pair[0])
    folders = dict(zip(settings, runs["folder"], strict=True))
    results = {s.loss: images.load(Path(folders[s]) / "result.png") for s in of_first_pair}
    sheet({"photograph": content, "painting": style} | results, out / "sheet.jpg")
    print(f"sheet   {out / 'sheet.jpg'}")


def main() -> None:
    style_losses = [loss for loss in every_loss() if not loss.startswith("content:")]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = [PHOTOGRAPHS / "coffee.png", PAINTINGS / "swirls.jpg"]
    parser.add_argument("--tuning", nargs=2, metavar=("CONTENT", "STYLE"), default=default)
    parser.add_argument("--pair", nargs=2, metavar=("CONTENT", "STYLE"), action="append")
    parser.add_argument("--seeds", type=int, default=1, help="more where runs start from noise")
    parser.add_argument("--factors", default="0.1,0.3,1,3,10", help="of a default weight")
    parser.add_argument(
        "--losses",
        default=",".join(sorted(style_losses, key=lambda loss: loss != "gram")),
        help="the first one is what others are compared with",
    )
    parser.add_argument(
        "settings", nargs="*", metavar="name=value", help="default: size=96 steps=60"
    )
    parser.add_argument("--out", type=Path, default=Path("comparison"))
    options = parser.parse_args()
    given = dict(setting.split("=", 1) for setting in options.settings)
    options.settings = {"size": "96", "steps": "60"} | given
    options.losses = options.losses.split(",")
    options.factors = [float(factor) for factor in options.factors.split(",")]
    if 1.0 not in options.factors:
        parser.error("--factors: 1 must be among them, the target is the first loss's score at it")
    options.pair = options.pair or [
        (PHOTOGRAPHS / "chelsea.png", PAINTINGS / "mosaic.jpg"),
        (PHOTOGRAPHS / "astronaut.png", PAINTINGS / "blossom.jpg"),
        (PHOTOGRAPHS / "rocket.jpg", PAINTINGS / "mosaic.jpg"),
        (PHOTOGRAPHS / "chelsea.png", PAINTINGS / "blossom.jpg"),
        (PHOTOGRAPHS / "astronaut.png", PAINTINGS / "mosaic.jpg"),
    ]
    options.tuning = tuple(map(str, options.tuning))
    options.pair = [tuple(map(str, files)) for files in options.pair]
    try:
        compare(options)
    except NstyleError as error:
        sys.exit(f"compare: {error}")
    except KeyboardInterrupt:
        sys.exit("compare: interrupted; the runs made so far are kept, the same command goes on")


if __name__ == "__main__":
    main()

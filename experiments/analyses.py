"""What the figures `init` and `rounds` conclude from their runs, with the numbers.

Each function takes the finished cells and the folder, writes its tables and plots there, and yields
their paths.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd

from nstyle import images
from nstyle.files import write_atomic
from nstyle.scores import gram_distance, lpips

if TYPE_CHECKING:
    from figure import Cell

mpl.use("Agg")

import matplotlib.pyplot as plt


def scored(cell: Cell) -> dict[str, float]:
    """Returns a cell's scores, by a network that was not optimised."""
    picture = cell.picture()
    size = cell.settings["size"]
    content, style = (images.load(cell.settings[name], size) for name in ("content", "style"))
    differences = np.diff(picture, axis=0), np.diff(picture, axis=1)
    return {
        "style_gram": gram_distance(picture, style),
        "lpips_content": lpips(picture, content),
        "roughness": 1000 * float(np.mean([np.square(d).mean() for d in differences])),
    }


def init(cells: list[Cell], out: Path) -> Iterator[Path]:
    """Distances between the results of all starts and seeds: LPIPS, averaged over pairs of runs."""
    starts = list(dict.fromkeys(cell.column for cell in cells))
    pictures: dict[str, list[np.ndarray]] = {start: [] for start in starts}
    for cell in cells:
        picture = cell.picture()
        if not any(np.array_equal(picture, other) for other in pictures[cell.column]):
            pictures[cell.column].append(picture)  # starts without noise end alike for every seed

    def mean_distance(first: str, second: str) -> float:
        if first == second:
            pairs = list(itertools.combinations(pictures[first], 2))
        else:
            pairs = list(itertools.product(pictures[first], pictures[second]))
        return float(np.mean([lpips(*pair) for pair in pairs])) if pairs else float("nan")

    matrix = pd.DataFrame(
        [[mean_distance(first, second) for second in starts] for first in starts],
        index=pd.Index(starts, name="start"),
        columns=starts,
    )
    yield table(out / "distances.csv", matrix.reset_index())
    summary = pd.DataFrame(
        {"start": cell.column, "seed": cell.row, "loss": cell.run.best["loss"], **scored(cell)}
        for cell in cells
    )
    yield table(out / "ends.csv", summary.groupby("start").mean(numeric_only=True).reset_index())


def rounds(cells: list[Cell], out: Path, evaluations: int = 20) -> Iterator[Path]:
    """The loss after each round, and the curve."""
    traces = {
        cell.column.replace("\n", " "): pd.read_csv(cell.run.folder / "trace.csv") for cell in cells
    }
    ends = {
        name: trace.best_loss[trace.step % evaluations == 0].to_numpy()
        for name, trace in traces.items()
    }
    by_round = pd.DataFrame(ends).rename_axis("round").reset_index()
    for name in ends:
        fall = -by_round[name].diff() / by_round[name].shift()
        by_round[f"fall, {name}"] = (100 * fall).round(2)
    yield table(out / "rounds.csv", by_round)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, trace in traces.items():
        axes.semilogy(trace.step / evaluations, trace.best_loss / trace.loss[0], label=name)
    axes.axvline(10, color="grey", linestyle=":", label="the article's 10 rounds")
    axes.set(xlabel="rounds of 20 evaluations", ylabel="lowest loss so far / loss at the start")
    axes.legend()
    path = out / "rounds.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    yield path


def table(path: Path, frame: pd.DataFrame) -> Path:
    """Writes a table as CSV, prints it, and returns its path."""
    print(frame.to_string(index=False, float_format=lambda value: f"{value:.4g}"), flush=True)
    write_atomic(path, frame.to_csv(index=False).encode())
    return path

"""What each part of a sweep over subsets is worth, for the page of findings.

    python experiments/values.py SWEEP [--out FOLDER]

Prints for each style score a table in Markdown: the values with their intervals over pairs, the
order of forward selection, the interactions. Writes `NAME.csv`, a row for each run with its scores,
and `NAME.png`, the values as bars with intervals.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from finding import markdown

from nstyle import report
from nstyle.report.comparisons import valued

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SCORES = {"style_gram": "Gram", "style_frechet": "Fréchet", "colour_histogram": "colours"}


def tables(own: dict[str, Any]) -> str:
    """Returns what a score says of the parts."""
    parts, whole = own["parts"], own["whole"]
    rows = []
    for name, found in [*zip(parts, own["values"], strict=True), ("all", whole)]:
        share = 100 * found["mean"] / whole["mean"]
        interval = f"{found['low']:+.3f} to {found['high']:+.3f}"
        rows.append([name, f"{found['mean']:+.3f}", interval, f"{share:.0f} %"])
    text = markdown(["part", "value", "95 % interval", "of all"], rows)
    steps = ", ".join(
        f"{parts[part]} {100 * mean / whole['mean']:.0f} %" for part, mean in own["forward"]
    )
    matrix = [
        [
            parts[i],
            *("" if cell["mean"] is None else f"{cell['mean']:+.3f}{_star(cell)}" for cell in row),
        ]
        for i, row in enumerate(own["interactions"])
    ]
    return f"{text}\n\nForward: {steps}\n\n{markdown(['', *parts], matrix)}"


def _star(cell: dict[str, float]) -> str:
    return "*" if cell["low"] * cell["high"] > 0 else ""


def main() -> None:
    parser = argparse.ArgumentParser(description="What each part of a sweep of subsets is worth.")
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--out", type=Path, default=Path("experiments/results"))
    options = parser.parse_args()
    sweep = report.read(options.sweep)
    frame = report.table(sweep)
    scores = [name for name in sweep.measures if frame[name].notna().any()]
    found = {own["score"]: own for own in valued(sweep, frame, scores)}
    name = sweep.name.replace("-", "_")
    figure, axes = plt.subplots(1, len(found), figsize=(3.6 * len(found), 2.8), squeeze=False)
    for axis, (score, own) in zip(axes[0], found.items(), strict=True):
        print(f"\n**{SCORES[score]}** ({own['pairs']} pairs, {100 * own['short']:.0f} % short)\n")
        print(tables(own))
        means = pd.DataFrame(own["values"], own["parts"])
        ends = [means["mean"] - means["low"], means["high"] - means["mean"]]
        axis.barh(means.index[::-1], means["mean"][::-1], xerr=[end[::-1] for end in ends])
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title(SCORES[score])
    figure.tight_layout()
    figure.savefig(options.out / f"{name}.png", dpi=110)
    columns = [*sweep.varied, *scores]
    frame[columns].to_csv(options.out / f"{name}.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()

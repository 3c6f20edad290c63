"""What a sweep over pairs of pictures says of a parameter, for the page of findings.

    python experiments/finding.py SWEEP PARAMETER [--baseline LEVEL] [--at WEIGHT]
                                  [--where NAME=LEVEL] [--figure] [--out FOLDER]

Prints two tables in Markdown: the means over the pairs at one style weight, and LPIPS to the
photograph at an equal distance to the painting, along the style weights of the sweep, minus that of
the baseline (`statistics.trade_off`). Writes `NAME.csv`, a row for each run with its scores,
`NAME.jpg`, pictures of some pairs at that weight, and with `--figure` the differences of the second
table as `NAME_differences.png`.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from nstyle import images, report
from nstyle.files import write_atomic
from nstyle.report import statistics
from nstyle.scores import SCORES

WEIGHT, KEPT = "style_weight", "lpips_content"
DISTANCES = {
    "style_gram": "Gram",
    "style_frechet": "Fréchet",
    "style_gram_vgg16": "Gram by VGG-16",
}
MEANS = {
    "content_left": "content left",
    "style_left": "style left",
    KEPT: "LPIPS",
    "ssim_content": "SSIM",
    "style_gram": "Gram",
    "style_frechet": "Fréchet",
    "colour_histogram": "colours",
    "style_gram_vgg16": "Gram by VGG-16",
}
#: Fewer pairs with a common range say nothing.
LEAST_PAIRS = 6

#: Rows of the sheet, and the longest side of its cells in pixels.
SHOWN, CELL = 4, 96


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Returns a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def means(frame: pd.DataFrame, parameter: str, weight: str) -> str:
    """Returns the means over the pairs at one weight, a row for each level."""
    at = frame[frame[WEIGHT] == weight].groupby(parameter, observed=True)
    found = at[[name for name in MEANS if name in frame]].mean().dropna(axis=1)
    rows = [[f"`{level}`", *(f"{value:.3f}" for value in own)] for level, own in found.iterrows()]
    return markdown([f"`{parameter}`", *(MEANS[name] for name in found)], rows)


def comparisons(frame: pd.DataFrame, parameter: str, baseline: str | None) -> pd.DataFrame:
    """Returns LPIPS at equal distances, with 95 % intervals by pair and p after Holm over all."""
    numbers = frame.assign(**{WEIGHT: frame[WEIGHT].astype(float)})
    found = pd.concat(
        [
            statistics.trade_off(
                numbers, parameter, WEIGHT, distance, KEPT, [*statistics.PAIR], baseline
            ).assign(equal=name)
            for distance, name in DISTANCES.items()
            if distance in frame and frame[distance].notna().any()
        ],
        ignore_index=True,
    )
    found = found[found["n"] >= LEAST_PAIRS]
    found["p_holm"] = statistics.holm(found["p"].to_numpy())
    return found.sort_values("level", kind="stable")


def told(found: pd.DataFrame) -> str:
    """Returns what `comparisons` found as a table."""
    rows = [
        [
            f"`{row.level}`, {row.equal}",
            f"{row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})",
            f"{row.better:.0f} of {row.n:.0f} pairs",
            f"{row.p_holm:.2g}",
        ]
        for row in found.itertuples()
    ]
    against = found["baseline"].iloc[0]
    return markdown(["at equal", f"LPIPS minus that of `{against}`", "lower on", "p"], rows)


def figure(found: pd.DataFrame, path: Path) -> None:
    """Draws what `comparisons` found: the differences with their intervals, a panel a distance."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    levels = list(dict.fromkeys(found["level"].astype(str)))[::-1]
    height = 0.9 + 0.28 * len(levels)
    drawn, axes = plt.subplots(1, found["equal"].nunique(), figsize=(7.4, height), sharey=True)
    for axis, (equal, own) in zip(
        np.atleast_1d(axes), found.groupby("equal", sort=False), strict=True
    ):
        at = [levels.index(level) for level in own["level"].astype(str)]
        around = own["difference"] - own["low"], own["high"] - own["difference"]
        axis.errorbar(own["difference"], at, xerr=around, fmt="o", markersize=4, capsize=2)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title(f"at equal {equal} distance", fontsize=9)
        axis.set_xlabel(f"LPIPS minus that of {own['baseline'].iloc[0]}", fontsize=8)
        axis.set_yticks(range(len(levels)), levels)
        axis.tick_params(labelsize=8)
    drawn.tight_layout()
    drawn.savefig(path, dpi=110)


def sheet(sweep: report.Sweep, parameter: str, weight: str) -> np.ndarray:
    """Returns the pictures of some pairs at one weight, a column for each level."""
    pictures: dict[str, dict[str, Path]] = {}
    for member in sweep.done:
        if member.settings.get(WEIGHT, weight) == weight:
            pair = "\n".join(Path(member.settings[name]).stem for name in statistics.PAIR)
            own = pictures.setdefault(pair, {})
            own[member.settings[parameter]] = member.folder / "result.png"
    levels = sweep.parameters[parameter]
    step = max(1, len(pictures) // SHOWN)
    shown = list(pictures)[::step][:SHOWN]
    cells = [[images.load(pictures[pair][level]) for level in levels] for pair in shown]
    columns = [level.strip("[]").replace(",", "\n") for level in levels]
    return images.contact_sheet(cells, columns, shown, CELL)


def main() -> None:
    """Prints the tables and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sweep", type=Path, help="its folder")
    parser.add_argument("parameter", help="whose levels are compared")
    parser.add_argument("--baseline", help="the level that others are compared with; the first")
    parser.add_argument("--at", default="10", help="the style weight of means and pictures; 10")
    parser.add_argument("--where", help="NAME=LEVEL: of another parameter, this level alone")
    parser.add_argument("--figure", action="store_true", help="also the differences as a figure")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    sweep = report.read(options.sweep)
    if options.where:
        name, _, level = options.where.partition("=")
        kept = [member for member in sweep.members if member.settings[name] == level]
        sweep = sweep._replace(members=kept)
    frame = report.table(sweep)
    print(means(frame, options.parameter, options.at), end="\n\n")
    found = comparisons(frame, options.parameter, options.baseline)
    print(told(found))
    name = sweep.name.replace("-", "_")
    if options.figure:
        figure(found, options.out / f"{name}_differences.png")
    columns = [*sweep.varied, *(column for column in (*MEANS, *SCORES) if column in frame)]
    rows = frame[list(dict.fromkeys(columns))].dropna(axis=1, how="all")
    write_atomic(
        options.out / f"{name}.csv", rows.to_csv(index=False, float_format="%.4g").encode()
    )
    images.save(options.out / f"{name}.jpg", sheet(sweep, options.parameter, options.at))


if __name__ == "__main__":
    main()

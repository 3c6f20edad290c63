"""Figures and tables for a paper, of runs that were read: see the methods of `Runs`.

Figures are matplotlib's, so that `savefig` writes them as PDF, SVG or PNG; tables are pandas'.
"""

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nstyle.config.overrides import literal
from nstyle.errors import NstyleError, check_choice
from nstyle.report import statistics
from nstyle.report.comparisons import WEIGHTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Side of a cell of a grid, in inches.
_CELL = 1.1


def grid(
    table: pd.DataFrame, picture: Callable[[Any], np.ndarray], columns: str, rows: str
) -> "Figure":
    """Returns pictures by two columns of a table; see `Runs.grid`."""
    for name in (columns, rows):
        check_choice("grid", name, [*table])
    if table.empty:
        raise NstyleError("grid: no run is left")
    across, down = (list(dict.fromkeys(table[name].map(_text))) for name in (columns, rows))
    figure = _figure(_CELL * len(across) + 0.8, _CELL * len(down) + 0.4)
    axes = figure.subplots(len(down), len(across), squeeze=False)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_frame_on(False)
    for index, row in table.iterrows():
        place = down.index(_text(row[rows])), across.index(_text(row[columns]))
        if axes[place].images:
            raise NstyleError(
                f"grid: several runs have {columns}={_text(row[columns])} and"
                f" {rows}={_text(row[rows])}; leave rows of the table out first"
            )
        axes[place].imshow(np.clip(picture(index), 0, 1))
    for axis, text in zip(axes[0], _labels(across), strict=True):
        axis.set_title(text, fontsize=8)
    for axis, text in zip(axes[:, 0], _labels(down), strict=True):
        axis.set_ylabel(text, fontsize=8)
    return figure


def curves(traces: Sequence[tuple[str, pd.DataFrame]], term: str) -> "Figure":
    """Returns a term of traces by step, a colour for each label; see `Runs.curves`."""
    if not traces:
        raise NstyleError("curves: no run is left")
    figure = _figure(5.4, 2.8)
    axis = figure.subplots()
    levels = list(dict.fromkeys(label for label, _ in traces))
    colours = {label: f"C{n % 10}" for n, label in enumerate(levels)}
    names = dict(zip(levels, _labels(levels), strict=True))
    told: set[str] = set()
    for label, trace in traces:
        check_choice("term", term, [*trace])
        name = None if label in told else names[label]
        axis.plot(trace["step"], trace[term], color=colours[label], linewidth=1, label=name)
        told.add(label)
    axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_ylabel(term)
    if len(told) > 1:
        figure.legend(fontsize=8, loc="outside right upper")
    return figure


def trade_off(table: pd.DataFrame, varied: Sequence[str], by: str, x: str, y: str) -> "Figure":
    """Returns the mean curve of each level through its weights; see `Runs.trade_off`."""
    weight = _weight(varied)
    _check_columns(table, by, x, y)
    found = statistics.mean_curves(table, by, weight, x, y, _blocks(varied, by, weight))
    if found.empty:
        raise NstyleError(f"trade_off: no pair of pictures has every {by} at every {weight}")
    figure = _figure(5.4, 3.2)
    axis = figure.subplots()
    curves = dict(list(found.groupby("level", sort=False)))
    for name, own in zip(_labels([*map(_text, curves)]), curves.values(), strict=True):
        (line,) = axis.plot(own["x"], own["y"], "o-", markersize=4, label=name)
        if own["low"].notna().all():
            axis.fill_between(own["x"], own["low"], own["high"], color=line.get_color(), alpha=0.15)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    figure.legend(title=by, fontsize=8, title_fontsize=8, loc="outside right upper")
    return figure


def compare(
    table: pd.DataFrame, varied: Sequence[str], by: str, baseline: Any, x: str, y: str
) -> pd.DataFrame:
    """Returns each level's difference from the baseline, by pair; see `Runs.compare`."""
    _check_columns(table, by, x, y)
    weight = next((name for name in WEIGHTS if name in varied), None)
    if isinstance(baseline, list | tuple):
        baseline = literal(baseline)
    if baseline is not None and baseline not in set(table[by]):
        check_choice("baseline", repr(baseline), [*map(repr, table[by].unique().tolist())])
    if weight is None or weight == by:
        found, where = statistics.compare(table, by, [y], _blocks(varied, by), baseline), ""
    else:
        blocks = _blocks(varied, by, weight)
        found = statistics.trade_off(table, by, weight, x, y, blocks, baseline)
        where = f" at one value of {x}"
    if found.empty:
        raise NstyleError(f"compare: no pair of pictures has two levels of {by}{where}")
    found["p"] = statistics.holm(found["p"].to_numpy())
    found["better"] = [sum(own < 0 for own in differences) for differences in found["differences"]]
    columns = ["level", "difference", "low", "high", "p", "better", "n"]
    names = {"better": "lower on", "n": "pairs", "level": by}
    return found[columns].rename(columns=names).set_index(by)


def _check_columns(table: pd.DataFrame, by: str, *scores: str) -> None:
    check_choice("parameter", by, [*table])
    for name in scores:
        check_choice("score", name, [*table])


def _labels(levels: Sequence[str]) -> list[str]:
    """Returns levels as short texts, in lines: of sets of layers what is in them, or is not."""
    sets = [level.strip("[]").split(",") for level in levels if level.startswith("[")]
    whole = max(sets, key=len, default=[])
    if 1 < len(levels) == len(sets) and all(set(own) <= set(whole) for own in sets):
        levels = [_set_label(own, whole) for own in sets]
    return [textwrap.fill(level, 16) for level in levels]


def _set_label(own: Sequence[str], whole: Sequence[str]) -> str:
    missing = [part for part in whole if part not in own]
    if not missing:
        return "all"
    return ", ".join(own) if len(own) <= len(missing) else f"without {', '.join(missing)}"


def _blocks(varied: Sequence[str], *but: str) -> list[str]:
    return [name for name in varied if name not in but]


def _weight(varied: Sequence[str]) -> str:
    for name in WEIGHTS:
        if name in varied:
            return name
    raise NstyleError(f"trade_off: none of {', '.join(WEIGHTS)} varies in these runs")


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure(width: float, height: float) -> "Figure":
    try:
        import matplotlib.pyplot as plt  # not its figures alone: else a notebook shows none
    except ImportError as error:
        raise NstyleError('figures need matplotlib: pip install "nstyle[experiments]"') from error
    figure = plt.figure(figsize=(width, height), layout="constrained")
    plt.close(figure)
    return figure

"""What the scores of a sweep's runs say of a parameter: pure functions of tables.

A table is a `pandas.DataFrame` with a row for each run and a column for each parameter and score.
Runs are compared within blocks: runs that differ in nothing but one parameter. The unit of every
mean, interval and test is a pair of pictures, photograph and painting: seeds and settings are
averaged within it. Pairs count as independent: of pairs that share a picture, intervals are too
narrow.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from nstyle.files import Json

#: Parameters that together name a pair of pictures.
PAIR = ("content", "style")

#: From so many pairs of pictures on there are intervals and p values.
ENOUGH_PAIRS = 5

#: Spread below this fraction of the values themselves is rounding.
_ROUNDING = 1e-9

_ONE_BLOCK = "block"


def interval(values: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % interval of a mean by Student's t (1908, Biometrika 6).

    It holds the mean of normal values in 95 % of cases however few they are, and leaves out 0 where
    the t test of `paired` has a p below 0.05.

    Args:
      values: float (n,), finite.

    Returns:
      Low and high end; both are the value itself where all values are equal, and NaN where there
      are fewer than two.
    """
    if len(values) < 2:
        return math.nan, math.nan
    mean = float(values.mean())
    if _is_constant(values):
        return mean, mean
    reach = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean - reach, mean + reach


def interval_of_pairs(values: np.ndarray) -> tuple[float, float]:
    """Returns `interval` of a value for each pair; NaN for fewer than `ENOUGH_PAIRS` of them."""
    return interval(values) if len(values) >= ENOUGH_PAIRS else (math.nan, math.nan)


def paired(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Compares two columns whose rows belong together.

    Args:
      first: float (n,), the baseline.
      second: float (n,); each is compared with the same row of `first`.

    Returns:
      `difference`, the mean of second minus first, with its 95 % interval from `low` to `high` (see
      `interval`); `percent` of the mean of `first`; `cohens_d` of the pairs, the mean of the
      differences over their standard deviation (d_z of Lakens 2013, Front. Psychol. 4:863); `p` of
      a paired t test (Student 1908); `n`. What the pairs do not decide is NaN: all but `difference`
      and `percent` for fewer than two pairs, d and p where every difference is the same.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    differences = second - first
    mean = float(differences.mean()) if len(differences) else math.nan
    scale = float(np.abs([first, second]).max(initial=0))
    varied = len(differences) > 1 and not _is_constant(differences, scale)
    low, high = interval(differences) if varied or len(differences) < 2 else (mean, mean)
    baseline = float(first.mean()) if len(first) else math.nan
    return {
        "difference": mean,
        "low": low,
        "high": high,
        "percent": 100 * mean / baseline if baseline else math.nan,
        "cohens_d": mean / float(differences.std(ddof=1)) if varied else math.nan,
        "p": float(stats.ttest_rel(second, first).pvalue) if varied else math.nan,
        "n": len(differences),
    }


def compare(
    table: pd.DataFrame,
    parameter: str,
    scores: Sequence[str],
    blocks: Sequence[str],
    baseline: Any = None,
) -> pd.DataFrame:
    """Compares each level of a parameter with one of them, within blocks, by pair of pictures.

    A block is a combination of values of all other varied parameters, such as pictures and seed, so
    that the runs of a block differ in the parameter alone (a randomised block design; Fisher 1935,
    "The Design of Experiments"). It counts where both levels have a score; several runs of the same
    block and level count as their mean. The blocks of a pair of pictures are averaged, and the pair
    is the unit, because runs of the same pictures are not independent (pseudoreplication; Hurlbert
    1984, Ecol. Monogr. 54). Fewer than `ENOUGH_PAIRS` pairs have no interval, d or p.

    Args:
      table: a row for each run.
      parameter: a column; the order of its levels is that of its categories, or of appearance.
      scores: columns of numbers; NaN where a run has none.
      blocks: columns, without `parameter`.
      baseline: the level that the others are compared with; None for the first.

    Returns:
      A row for each score and level that shares a block with the baseline, with the columns
      parameter, level, baseline, score, baseline_mean, level_mean, those of `paired`, of which n
      counts pairs, and for each pair its names (`pairs`) and difference (`differences`). The p of
      each is its own; see `holm`.
    """
    levels = _levels(table[parameter])
    baseline = levels[0] if baseline is None else baseline
    rows: list[Json] = []
    for score in scores:
        means = block_means(table, score, parameter, blocks)
        for level in levels:
            if level == baseline or not {baseline, level} <= set(means):
                continue
            complete = means[[baseline, level]].dropna()
            if complete.empty:
                continue
            units = _by_pair(complete)
            first, second = units.to_numpy(float).T
            rows.append(
                {
                    "parameter": parameter,
                    "level": level,
                    "baseline": baseline,
                    "score": score,
                    "baseline_mean": float(first.mean()),
                    "level_mean": float(second.mean()),
                }
                | _of_pairs(first, second)
                | {"pairs": _names(units), "differences": (second - first).tolist()}
            )
    return pd.DataFrame(rows)


def curve_gap(first: np.ndarray, second: np.ndarray) -> float:
    """Returns by how much one curve lies above another on average, where both are known.

    A curve joins its points by straight lines, in the order of x; points of equal x count as their
    mean. What is averaged is exact: between two neighbouring points of either curve the difference
    is a straight line.

    Args:
      first: float (n, 2), points (x, y), in any order.
      second: float (m, 2).

    Returns:
      The mean of second minus first over the x that both reach; NaN where there are none.
    """
    (x0, y0), (x1, y1) = _curve(first), _curve(second)
    if not len(x0) or not len(x1):
        return math.nan
    low, high = max(x0[0], x1[0]), min(x0[-1], x1[-1])
    if low > high:
        return math.nan
    x = np.unique(np.clip(np.concatenate([x0, x1]), low, high))
    gaps = np.interp(x, x1, y1) - np.interp(x, x0, y0)
    return float(np.trapezoid(gaps, x) / (high - low)) if high > low else float(gaps[0])


def trade_off(
    table: pd.DataFrame,
    parameter: str,
    weight: str,
    x: str,
    y: str,
    blocks: Sequence[str],
    baseline: Any = None,
) -> pd.DataFrame:
    """Compares levels of a parameter at an equal trade-off, by pair of pictures.

    At the same weight one level may be closer to the photograph only because it is further from the
    painting. So for each level the scores at all weights make a curve, y over x, and levels are
    compared by `curve_gap`: at equal x, over the x that both reach. Seeds are averaged before, all
    other settings after, within each pair; the pair is the unit, as in `compare`.

    Args:
      table: a row for each run.
      parameter: a column, whose levels are compared.
      weight: a column, through whose levels a curve goes.
      x: the score that is held equal.
      y: the score that is compared.
      blocks: the other varied columns.
      baseline: the level that the others are compared with; None for the first.

    Returns:
      A row for each level that shares a range of x with the baseline: parameter, level, baseline,
      difference (of y; the mean over pairs), low, high, p, p_holm (over these rows), n (pairs),
      better (on how many of them the difference is below 0), and for each pair its names (`pairs`)
      and difference (`differences`). Pairs without a common range do not count.
    """
    levels = _levels(table[parameter])
    baseline = levels[0] if baseline is None else baseline
    index = [name for name in blocks if name != "seed"]
    table = table.dropna(subset=[x, y])
    if table.empty:
        return pd.DataFrame()
    curves = block_means(table, [x, y], parameter, [*index, weight])
    rows: list[Json] = []
    for level in levels:
        if level == baseline or not {baseline, level} <= set(curves.columns.levels[1]):
            continue
        found = _gaps(curves, (baseline, level), [x, y], index)
        if found.empty:
            continue
        units = _by_pair(found)
        differences = units["gap"].to_numpy(float)
        told = _of_pairs(np.zeros(len(differences)), differences)
        rows.append(
            {"parameter": parameter, "level": level, "baseline": baseline}
            | {name: told[name] for name in ("difference", "low", "high", "p")}
            | {"p_holm": math.nan, "n": len(differences), "better": int((differences < 0).sum())}
            | {"pairs": _names(units), "differences": differences.tolist()}
        )
    found = pd.DataFrame(rows)
    return found.assign(p_holm=holm(found["p"].to_numpy(float))) if rows else found


def _gaps(
    curves: pd.DataFrame, levels: tuple[Any, Any], scores: list[str], index: list[str]
) -> pd.DataFrame:
    """Returns the gap between the curves of two levels in each block where they share a range."""
    gaps = {
        key: curve_gap(*(block.xs(one, axis=1, level=1)[scores] for one in levels))
        for key, block in curves.groupby(level=[_ONE_BLOCK, *index], observed=True)
    }
    names = [_ONE_BLOCK, *index]
    return pd.DataFrame(
        {"gap": gaps.values()}, pd.MultiIndex.from_tuples(gaps, names=names)
    ).dropna()


def mean_curves(
    table: pd.DataFrame, parameter: str, weight: str, x: str, y: str, blocks: Sequence[str]
) -> pd.DataFrame:
    """Returns the curve of each level through its weights, averaged over pairs of pictures.

    Of blocks alone that have every level and weight, so that all points are of the same pictures.
    Pictures differ more among themselves than levels do; what they share is taken off before the
    interval (Cousineau 2005, Tutor. Quant. Methods Psychol. 1; with the factor of Morey 2008, 4).

    Returns:
      A row for each level and weight: level, weight, the means x and y, low and high (the interval
      of y; NaN for fewer than `ENOUGH_PAIRS` pairs), n (pairs).
    """
    known = table.dropna(subset=[x, y])
    if known.empty:
        return pd.DataFrame()
    complete = block_means(known, [x, y], [parameter, weight], blocks).dropna()
    if complete.empty or set(_levels(table[parameter])) - set(complete.columns.levels[1]):
        return pd.DataFrame()
    units = _by_pair(complete)
    own = units[y].sub(units[y].mean(axis=1), axis=0)
    factor = math.sqrt(own.shape[1] / max(own.shape[1] - 1, 1))
    rows: list[Json] = []
    for level, at in units[y].columns:
        low, high = interval(own[level, at].to_numpy(float) * factor)
        middle, mean = (low + high) / 2, float(units[y, level, at].mean())
        if len(units) < ENOUGH_PAIRS:
            low = high = math.nan
        ends = {"low": mean + low - middle, "high": mean + high - middle, "n": len(units)}
        where = {"level": level, "weight": at, "x": float(units[x, level, at].mean()), "y": mean}
        rows.append(where | ends)
    return pd.DataFrame(rows)


def holm(p: np.ndarray) -> np.ndarray:
    """Returns p values corrected for their number (Holm 1979, Scand. J. Stat. 6).

    The corrected values bound the chance of a single false finding among all of them, whether or
    not they are independent: of n, the smallest is multiplied by n, the next by n - 1 and so on,
    and none is smaller than one before it.

    Args:
      p: float (n,); NaN where there was no test, which does not count.
    """
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN is last
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * p[order]))
    return corrected


def summary(table: pd.DataFrame, parameter: str, scores: Sequence[str]) -> pd.DataFrame:
    """Returns the mean of each score over the pairs of pictures of each level.

    The runs of a pair are averaged first. Levels may have been run on different pairs: `compare`
    tells levels apart.

    Returns:
      A row for each score and level: parameter, level, score, mean, its 95 % interval from low to
      high (NaN for fewer than `ENOUGH_PAIRS` pairs), n (pairs). Levels without a score are left
      out.
    """
    pair = [name for name in PAIR if name in table and name != parameter]
    rows: list[Json] = []
    for score in scores:
        for level in _levels(table[parameter]):
            runs = table.loc[table[parameter] == level, [*pair, score]].dropna(subset=[score])
            if len(runs):
                values = _by_pair(runs.set_index(pair) if pair else runs)[score].to_numpy(float)
                low, high = interval_of_pairs(values)
                rows.append(
                    {
                        "parameter": parameter,
                        "level": level,
                        "score": score,
                        "mean": float(values.mean()),
                        "low": low,
                        "high": high,
                        "n": len(values),
                    }
                )
    return pd.DataFrame(rows)


def shared_means(
    table: pd.DataFrame, settings: Sequence[str], scores: Sequence[str]
) -> pd.DataFrame:
    """Returns the mean scores of each setting over the pairs of pictures that all settings share.

    The runs of a pair and setting are averaged first.

    Args:
      table: a row for each run.
      settings: columns whose combinations are the settings.
      scores: columns of numbers.

    Returns:
      A row for each setting, indexed by its values, a column for each score; NaN where a shared
      pair has none. No rows where no pair is shared by all.
    """
    pair = [name for name in PAIR if name in table and name not in settings]
    cells = table.groupby([*settings, *pair], observed=True)[list(scores)].mean()
    if pair:
        counts = cells.groupby(level=pair, observed=True).size()
        total = len(table.drop_duplicates(list(settings)))
        shared = set(counts.index[counts == total])
        cells = cells[[key in shared for key in cells.index.droplevel(list(settings))]]
    return cells.groupby(level=list(settings), observed=True).agg(
        lambda means: means.mean(skipna=False)
    )


def pareto_front(points: np.ndarray) -> np.ndarray:
    """Says which points no other dominates, where lower is better.

    A point is dominated by one that is no worse in every coordinate and better in one (Pareto). So
    equal points are both on the front or both off it. In two dimensions: after sorting, a point is
    on the front if it is the lowest of its first coordinate and lower than all before.

    Args:
      points: float (n, 2); those that are not finite are never on the front.

    Returns:
      bool (n,).
    """
    points = np.asarray(points, float)
    front = np.zeros(len(points), bool)
    (known,) = np.nonzero(np.isfinite(points).all(axis=1))
    best = (math.inf, math.inf)
    for index in known[np.lexsort(points[known].T[::-1])]:
        point = (points[index, 0], points[index, 1])
        if point[1] < best[1] or point == best:
            best = point
            front[index] = True
    return front


def block_means(
    table: pd.DataFrame,
    score: str | list[str],
    columns: str | list[str],
    blocks: Sequence[str],
) -> pd.DataFrame:
    """Returns the mean score of each block, a row, under each level of `columns`."""
    index = [_ONE_BLOCK, *blocks]  # where nothing else varies, all runs are one block
    return table.assign(**{_ONE_BLOCK: 0}).pivot_table(
        score, index, columns, aggfunc="mean", observed=True
    )


def _by_pair(blocks: pd.DataFrame) -> pd.DataFrame:
    """Returns the means of rows by the pair in their index; of all rows where it names none."""
    pair = [name for name in PAIR if name in blocks.index.names]
    if not pair:
        return blocks.mean().to_frame().T
    return blocks.groupby(level=pair, observed=True).mean()


def _of_pairs(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Returns what `paired` does, without what too few pairs do not tell."""
    found = paired(first, second)
    if found["n"] < ENOUGH_PAIRS:
        found |= dict.fromkeys(("low", "high", "cohens_d", "p"), math.nan)
    return found


def _names(units: pd.DataFrame) -> list[list[str]]:
    """Returns the names of the pictures of each row of `_by_pair`."""
    if not set(units.index.names) & set(PAIR):
        return [[]]
    return [list(key) if isinstance(key, tuple) else [key] for key in units.index]


def _curve(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the x of known points, ascending and each once, and their y."""
    points = np.asarray(points, float).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    x, places = np.unique(points[:, 0], return_inverse=True)
    return x, np.bincount(places, points[:, 1], len(x)) / np.bincount(places, minlength=len(x))


def _levels(column: pd.Series) -> list[Any]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return list(column.cat.categories)
    return list(column.dropna().unique())


def _is_constant(values: np.ndarray, scale: float | None = None) -> bool:
    scale = float(np.abs(values).max()) if scale is None else scale
    return bool(np.ptp(values) <= _ROUNDING * scale)

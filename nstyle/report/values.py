"""What each part of a whole is worth: of layers, of the poolings of pools, of weights.

The value of a part is what it adds, averaged over all orders in which the parts could be added
(Shapley 1953, "A Value for n-Person Games"): the values of all parts sum to what the whole adds.
The interaction of two is what they add together beyond what each adds alone, averaged over what
else is there (Grabisch and Roubens 1999, Int. J. Game Theory 28): below zero they do the same.

Pure functions. The unit is a pair of pictures: values are of each pair, intervals over pairs.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from nstyle.config.subsets import orders
from nstyle.report import statistics

#: What each subset adds, on each pair: float (pairs,).
Worths = Mapping[frozenset[int], np.ndarray]


class Whole(NamedTuple):
    """A parameter whose levels are subsets of some parts.

    Attributes:
      parameter: its name.
      size: how many parts there are.
      levels: level -> the parts that are in.
    """

    parameter: str
    size: int
    levels: dict[str, frozenset[int]]


def whole_of(parameter: str, levels: Sequence[str]) -> Whole | None:
    """Returns the subsets that levels such as `[0,1,1]` or `[avg,max]` are, or None.

    They are lists of one length, of weights of layers or of poolings, whose entries are two in all,
    the first of which is out, and both the empty and the full subset are there.
    """
    if not parameter.endswith(("_layer_weights", "pooling.pools")):
        return None
    lists = [level[1:-1].split(",") for level in levels if level[:1] + level[-1:] == "[]"]
    if len(lists) < len(levels) or len({len(own) for own in lists}) != 1:
        return None
    entries = list(dict.fromkeys(entry.strip() for own in lists for entry in own))
    count = len(lists[0])
    found = {
        level: frozenset(i for i, entry in enumerate(own) if entry.strip() == entries[-1])
        for level, own in zip(levels, lists, strict=True)
    }
    ends = {frozenset[int](), frozenset(range(count))}
    if len(entries) != 2 or count < 2 or not ends <= set(found.values()):
        return None
    return Whole(parameter, count, found)


def worths(
    table: pd.DataFrame, whole: Whole, weight: str, score: str, kept: str, blocks: Sequence[str]
) -> tuple[dict[frozenset[int], np.ndarray], float]:
    """Returns by how much each subset lowers a score at equal trade-off, on each pair.

    For each pair and subset the points at all weights make a curve of `score` over `kept`; what
    counts is the curve at the `kept` that the whole has at the least weight, which most reach. A
    curve begins where the empty subset is, if that is the same at all weights. One that does not
    reach what is held counts by its nearest end.

    Args:
      table: a row for each run.
      whole: the parameter.
      weight: the column that curves go along.
      score: lower is better.
      kept: the score that is held equal.
      blocks: the other varied columns.

    Returns:
      The worths, of subsets that have all weights on the pairs that have all runs, none unless
      the empty subset and the whole are among them; and the share of curves that do not reach what
      is held.
    """
    others = [name for name in blocks if name in statistics.PAIR]
    cells = statistics.block_means(table, [score, kept], [whole.parameter, weight], others).dropna()
    weights = sorted(dict.fromkeys(table[weight]), key=float)
    by_subset = {
        subset: level
        for level, subset in whole.levels.items()
        if all((name, level, own) in cells for name in (score, kept) for own in weights)
    }
    everything = frozenset(range(whole.size))
    if cells.empty or not {frozenset(), everything} <= by_subset.keys():
        return {}, 0.0
    held = cells[kept, by_subset[everything], weights[0]].to_numpy(float)
    nothing = cells[[score, kept]].xs(by_subset[frozenset()], axis=1, level=whole.parameter)
    start = {name: nothing[name].mean(axis=1).to_numpy(float) for name in (score, kept)}
    is_one_point = np.ptp(nothing[kept].to_numpy(float), axis=1).max() < 1e-6
    found, short = {}, 0
    for subset, level in by_subset.items():
        own = cells.xs(level, axis=1, level=whole.parameter)
        x, y = own[kept].to_numpy(float), own[score].to_numpy(float)
        if is_one_point:
            x = np.concatenate([start[kept][:, None], x], axis=1)
            y = np.concatenate([start[score][:, None], y], axis=1)
        misses = (x.max(axis=1) < held) | (x.min(axis=1) > held)
        short += int(np.sum(misses)) if subset else 0
        order = np.argsort(x, axis=1)
        x, y = (np.take_along_axis(of, order, axis=1) for of in (x, y))
        found[subset] = np.array([np.interp(*row) for row in zip(held, x, y, strict=True)])
    worth = {subset: found[frozenset()] - value for subset, value in found.items()}
    return worth, short / max(1, len(held) * (len(found) - 1))


def shapley(worth: Worths, count: int) -> np.ndarray:
    """Returns the value of each part on each pair, float (parts, pairs).

    Exact where all subsets are there; else the mean over the first of `orders`, as many as are
    there, which is unbiased.

    Raises:
      KeyError: not even the first of them is.
    """
    if len(worth) == 2**count:
        return _exact(worth, count)
    drawn = orders(count, len(worth))
    known = [*itertools.takewhile(lambda order: set(_along(order)) <= set(worth), drawn)]
    if not known:
        raise KeyError("the subsets along the first random order are not there")
    total = np.zeros((count, len(worth[frozenset()])))
    for order in known:
        for part, (before, after) in zip(order, itertools.pairwise(_along(order)), strict=True):
            total[part] += worth[after] - worth[before]
    return total / len(known)


def _along(order: Sequence[int]) -> list[frozenset[int]]:
    """Returns the subsets along an order, from the empty one to the whole."""
    return [frozenset(order[:length]) for length in range(len(order) + 1)]


def _exact(worth: Worths, count: int) -> np.ndarray:
    values = np.zeros((count, len(worth[frozenset()])))
    for subset, own in worth.items():
        share = math.comb(count - 1, len(subset) - 1) * count if subset else 1
        for part in subset:
            values[part] += (own - worth[subset - {part}]) / share
    return values


def is_known(worth: Worths, count: int) -> bool:
    """Says whether there are subsets enough for `shapley`."""
    return len(worth) == 2**count or set(_along(orders(count, 1)[0])) <= set(worth)


def interactions(worth: Worths, count: int) -> np.ndarray | None:
    """Returns what each two parts add together beyond each alone, float (parts, parts, pairs).

    The diagonal is NaN; None where not all subsets are there.
    """
    if len(worth) < 2**count:
        return None
    found = np.full((count, count, len(worth[frozenset()])), np.nan)
    for first, second in itertools.combinations(range(count), 2):
        both = frozenset({first, second})
        total = np.zeros(found.shape[2])
        for subset in worth:
            if subset & both:
                continue
            together = worth[subset | both] - worth[subset | {first}] - worth[subset | {second}]
            share = (count - 1) * math.comb(count - 2, len(subset))
            total += (together + worth[subset]) / share
        found[first, second] = found[second, first] = total
    return found


def forward(worth: Worths, count: int) -> list[tuple[int, float]]:
    """Returns parts in the order of forward selection, each with the mean worth so far.

    At each step the part that adds most to the mean over pairs joins; where only some subsets are
    there, of those that are.
    """
    chosen = frozenset[int]()
    found: list[tuple[int, float]] = []
    for _ in range(count):
        steps = {part: chosen | {part} for part in range(count) if chosen | {part} in worth}
        steps = {part: subset for part, subset in steps.items() if part not in chosen}
        if not steps:
            break
        best = max(steps, key=lambda part: float(worth[steps[part]].mean()))
        chosen |= {best}
        found.append((best, float(worth[chosen].mean())))
    return found

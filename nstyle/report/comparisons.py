"""What the scores of a sweep say, pair by pair: fronts, summaries, comparisons, trade-offs."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nstyle.files import Json
from nstyle.report import statistics, values
from nstyle.report.sweeps import Sweep
from nstyle.scores import Description

#: What stands for photograph and painting on the page where few of their combinations exist.
PAIRED = "pair"


#: Parameters that repeat a comparison rather than being compared.
REPLICATES = (*statistics.PAIR, PAIRED, "seed")


#: What is compared at an equal trade-off, along the first of these parameters that is varied.
KEPT = "lpips_content"


WEIGHTS = ("style_weight", "content_weight")


def joined(pair: Iterable[str]) -> str:
    """Returns a pair of pictures in words."""
    return " with ".join(pair)


def position(sweep: Sweep, settings: Mapping[str, str]) -> list[int]:
    """Returns the index of the level of each varied parameter; -1 where that is not known."""
    return [
        sweep.parameters[name].index(settings[name]) if name in settings else -1
        for name in sweep.varied
    ]


def number(value: float, digits: int = 5) -> float | None:
    """Returns a number as JSON can hold it, with a few significant digits."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _fronts(
    frame: pd.DataFrame, measures: Sequence[str], scores: Mapping[str, Description]
) -> dict[str, list[int]]:
    """Returns for each two measures the rows on their Pareto front."""
    higher = {name for name, own in scores.items() if own["higher_is_better"]}
    signed = {
        name: (-1 if name in higher else 1) * frame[name].to_numpy(float) for name in measures
    }
    return {
        f"{first} {second}": np.flatnonzero(
            statistics.pareto_front(np.stack([signed[first], signed[second]], axis=1))
        ).tolist()
        for first, second in itertools.combinations(measures, 2)
    }


def _pairs(sweep: Sweep) -> int:
    """Returns on how many pairs of pictures there are finished runs."""
    configs = [(member.result or {}).get("config", {}) for member in sweep.done]
    return len({str([config.get(name) for name in statistics.PAIR]) for config in configs})


def trade_fronts(sweep: Sweep, frame: pd.DataFrame, measures: Sequence[str]) -> Json:
    """Returns the fronts: of the runs of a single pair, else of settings by means over pairs."""
    if _pairs(sweep) < 2:
        return {"fronts": _fronts(frame, measures, sweep.measures), "settings": None}
    treatments = [name for name in sweep.varied if name not in REPLICATES]
    if not treatments:
        return {"fronts": {}, "settings": []}
    means = statistics.shared_means(frame, treatments, measures)
    keys = [key if isinstance(key, tuple) else (key,) for key in means.index]
    settings = [
        {
            "at": position(sweep, dict(zip(treatments, key, strict=True))),
            "values": [number(value) for value in row],
        }
        for key, row in zip(keys, means.to_numpy(float), strict=True)
    ]
    return {"fronts": _fronts(means, measures, sweep.measures), "settings": settings}


def compared(sweep: Sweep, frame: pd.DataFrame, scores: Sequence[str]) -> Json:
    """Returns summaries and comparisons of every parameter, and what they do not show.

    Each level is a baseline once, so that the page can offer the choice.
    """
    varied = sweep.varied
    copies = _seed_changes_nothing(frame, varied, scores)
    blocks = [name for name in varied if not (copies and name == "seed")]
    distinct = frame[frame["seed"] == sweep.parameters["seed"][0]] if copies else frame
    treatments = [name for name in blocks if name not in REPLICATES]
    compared = [
        statistics.compare(distinct, name, scores, _without(blocks, name), baseline)
        for name in treatments
        for baseline in sweep.parameters[name]
    ]
    trades, mean_curves = _trade_offs(sweep, distinct, blocks, scores)
    comparisons = pd.concat([pd.DataFrame(), *compared, *trades])
    comparisons, tests = _corrected(comparisons) if len(comparisons) else (comparisons, 0)
    repeated = [name for name in blocks if distinct[name].value_counts().max() > 1]
    summaries = [statistics.summary(distinct, name, scores) for name in repeated]
    rows = _records(comparisons)
    names: dict[tuple[str, ...], int] = {}
    for row in rows:
        row["pairs"] = [names.setdefault(tuple(pair), len(names)) for pair in row["pairs"]]
    return {
        "comparisons": rows,
        "pairs": [joined(Path(name).name for name in pair) for pair in names],
        "mean_curves": _records(pd.concat([pd.DataFrame(), *mean_curves])),
        "summaries": _records(pd.concat(summaries)) if summaries else [],
        "note": _note(sweep, tests, copies),
    }


def _trade_offs(
    sweep: Sweep, frame: pd.DataFrame, blocks: Sequence[str], scores: Sequence[str]
) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """Returns comparisons at equal trade-off, with the score held equal as `x`, and mean curves."""
    weight = next((name for name in WEIGHTS if name in blocks), "")
    if not weight or KEPT not in scores:
        return [], []
    compared, curves = [], []
    for name in _without(blocks, weight, *REPLICATES):
        others = _without(blocks, name, weight)
        for x in (name for name in scores if sweep.measures[name]["against"] == "style"):
            compared += [
                statistics.trade_off(frame, name, weight, x, KEPT, others, baseline).assign(
                    score=KEPT, x=x
                )
                for baseline in sweep.parameters[name]
            ]
            found = statistics.mean_curves(frame, name, weight, x, KEPT, others)
            curves.append(found.assign(parameter=name, score=x))
    return compared, curves


def valued(sweep: Sweep, frame: pd.DataFrame, scores: Sequence[str]) -> list[Json]:
    """Returns what each part of the subsets of a parameter is worth by each style score."""
    varied = sweep.varied
    weight = next((name for name in WEIGHTS if name in varied), "")
    wholes = [values.whole_of(name, sweep.parameters[name]) for name in varied]
    found = []
    for whole in filter(None, wholes if weight and KEPT in scores else []):
        blocks = _without(varied, whole.parameter, weight)
        for score in (name for name in scores if sweep.measures[name]["against"] == "style"):
            worth, short = values.worths(frame, whole, weight, score, KEPT, blocks)
            if values.is_known(worth, whole.size):
                if sweep.measures[score]["higher_is_better"]:
                    worth = {subset: -own for subset, own in worth.items()}
                pairs = len(worth[frozenset()])
                named = {"parameter": whole.parameter, "parts": _names_of_parts(sweep, whole)}
                told = {"score": score, "pairs": pairs, "short": number(short)}
                found.append(named | told | _of_worths(worth, whole.size))
    return found


def _of_worths(worth: values.Worths, size: int) -> Json:
    """Returns values, interactions and forward selection of parts, with intervals over pairs."""

    def told(of: np.ndarray) -> Json:
        low, high = statistics.interval_of_pairs(of)
        ends = {"low": number(low), "high": number(high)}
        return {"mean": number(float(of.mean()))} | ends | {"each": [number(v) for v in of]}

    together = values.interactions(worth, size)
    matrix = [] if together is None else [[told(of) for of in row] for row in together]
    return {
        "values": [told(of) for of in values.shapley(worth, size)],
        "whole": told(worth[frozenset(range(size))]),
        "interactions": matrix,
        "forward": [[part, number(mean)] for part, mean in values.forward(worth, size)],
    }


def _names_of_parts(sweep: Sweep, whole: values.Whole) -> list[str]:
    """Returns the names of layers where a parameter is of their weights, else numbers."""
    config = (sweep.done[0].result or {})["config"]
    names = config.get(whole.parameter.removesuffix("_layer_weights") + "_layers", ())
    kind = "pool" if whole.parameter.startswith("pooling") else "part"
    numbers = [f"{kind} {number}" for number in range(1, whole.size + 1)]
    return list(names) if len(names) == whole.size else numbers


def _without(names: Sequence[str], *left_out: str) -> list[str]:
    return [name for name in names if name not in left_out]


def _corrected(comparisons: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Returns comparisons with p by Holm's method over all, and how many tests they are.

    The same two levels are there twice, each once the baseline: that is one test.
    """
    x = comparisons["x"].fillna("") if "x" in comparisons else ""
    comparisons = comparisons.assign(x=x)
    rows = zip(
        *(comparisons[name] for name in ("parameter", "score", "x", "level", "baseline")),
        strict=True,
    )
    test = pd.Series([(*what, *sorted(two)) for *what, a, b in rows for two in [(a, b)]])
    p = comparisons["p"].to_numpy(float)
    first = ~test.duplicated().to_numpy()
    corrected = dict(zip(test[first], statistics.holm(p[first]), strict=True))
    return comparisons.assign(p_holm=test.map(corrected).to_numpy(float)), int(
        np.isfinite(p[first]).sum()
    )


def _seed_changes_nothing(
    frame: pd.DataFrame, varied: Sequence[str], scores: Sequence[str]
) -> bool:
    """Says whether runs of other seeds are copies: without noise they all end alike."""
    if "seed" not in varied or not scores:
        return False
    others = [name for name in varied if name != "seed"]
    groups = frame.groupby(others, observed=True) if others else [("", frame)]
    return all(group[list(scores)].nunique().max() <= 1 for _, group in groups)


def _note(sweep: Sweep, comparisons: int, copies: bool) -> str:
    pairs = _pairs(sweep)
    seeds = len({(member.result or {}).get("config", {}).get("seed") for member in sweep.done})
    parts = [f"{_count(pairs, 'picture pair')}, {_count(seeds, 'seed')}."]
    if copies:
        parts.append("The seed changes nothing here, so one seed of each setting is counted.")
    parts.append("The unit is the picture pair; seeds and settings are averaged within it.")
    if pairs < statistics.ENOUGH_PAIRS:
        parts.append(
            f"With fewer than {statistics.ENOUGH_PAIRS} pairs differences are shown without"
            " intervals and p values: they hold for these pictures. Seeds of one pair are not a"
            " sample of pictures."
        )
    else:
        parts.append(
            "The results carry over to other pictures as far as these were drawn from them."
        )
    if comparisons:
        number = _count(comparisons, "test")
        parts.append(f"p is corrected by Holm's method over all {number} of this page.")
    parts.append("Scores are by networks and histograms; none of them is a viewer.")
    return " ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _records(frame: pd.DataFrame) -> list[Json]:
    return [
        {name: _rounded(value) for name, value in record.items()}
        for record in frame.to_dict("records")
    ]


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return number(value) if isinstance(value, float) else value

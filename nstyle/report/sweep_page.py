"""The page of a sweep, in one file."""

import html
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from nstyle import images
from nstyle.errors import NstyleError
from nstyle.files import Json
from nstyle.process.progress import watched
from nstyle.report import inspection, statistics
from nstyle.report.comparisons import (
    PAIRED,
    REPLICATES,
    compared,
    joined,
    number,
    position,
    trade_fronts,
    valued,
)
from nstyle.report.pages import as_json, filled
from nstyle.report.sweeps import NAMES_OF_FILES, Member, Sweep, is_number, plain
from nstyle.report.tables import LOSSES
from nstyle.scores import Description

THUMBNAIL, SOURCE, PICTURE = 160, 256, 512  # longest sides in pixels


TRACE_POINTS = 100


_NOT_TERMS = ("step", "size", "best_loss", "gradient_norm", "restarts")


def page(sweep: Sweep, frame: pd.DataFrame, out: Path) -> str:
    """Returns the page of a sweep.

    Args:
      sweep: from `read`.
      frame: its `table`.
      out: the folder that the page will lie in, for its links to the runs.
    """
    drawn = _by_pair(sweep)
    scores = [name for name in sweep.measures if frame[name].notna().any()]
    measures = [*scores, *(name for name in LOSSES if name in frame and frame[name].notna().any())]
    shown, pictures, traces = [], [], []
    sources: dict[str, Json | None] = {}
    rows = frame.to_dict("records")
    for member, row in watched(list(zip(drawn.done, rows, strict=True)), "reading"):
        thumbnail, picture = _pictures(member.folder / "result.png")
        pictures.append(picture)
        traces.append(_trace(member.folder / "trace.csv"))
        shown.append(
            {
                "at": position(drawn, member.settings),
                "values": [number(row[name]) for name in measures],
                "thumbnail": thumbnail,
                "sources": _sources(member, sources),
                "maps": _maps(member.folder / inspection.SHEET),
                "link": quote(os.fsencode(os.path.relpath(member.folder, out))),
                "folder": member.folder.name,
            }
            | {name: number(row[name]) for name in ("steps_done", "seconds", "compiles")}
            | {name: row[name] for name in ("stop", "command")}
        )
    data = {
        "name": sweep.name,
        "command": sweep.command,
        "environment": _environment(sweep.done),
        "parameters": [_parameter(name, drawn.parameters[name]) for name in drawn.varied],
        "measures": [_measure(name, sweep.measures) for name in measures],
        "runs": shown,
        "sources": list(sources.values()),
        "missing": [
            {"at": position(drawn, member.settings), "folder": member.folder.name}
            for member in drawn.members
            if member.result is None
        ],
        "shares": _shares(drawn, frame),
        **trade_fronts(drawn, frame, measures),
        **compared(sweep, frame, scores),
        "values": valued(sweep, frame, scores),
    }
    large = "\n".join(
        f'<script type="text/plain" id="picture-{index}">{picture}</script>'
        for index, picture in enumerate(pictures)
    )
    return filled(
        Path(__file__).with_name("report_page.html"),
        title=html.escape(sweep.name),
        data=as_json(data),
        traces=as_json(traces),
        pictures=large,
    )


def _maps(path: Path) -> str | None:
    """Returns what `nstyle inspect` drew of a run, where it did."""
    if not path.is_file():
        return None
    sheet = images.load(path)
    return images.data_uri(sheet, max(sheet.shape), quality=70)


def _by_pair(sweep: Sweep) -> Sweep:
    """Returns a sweep with one parameter for photograph and painting, where they vary in pairs.

    That is where no more than half of their combinations are there.
    """
    pairs = [
        tuple(member.settings.get(name, "") for name in statistics.PAIR) for member in sweep.members
    ]
    if not set(statistics.PAIR) <= set(sweep.varied):
        return sweep
    known = [pair for pair in dict.fromkeys(pairs) if all(pair)]
    if 2 * len(known) > math.prod(len(sweep.parameters[name]) for name in statistics.PAIR):
        return sweep
    short = [joined(Path(name).name for name in pair) for pair in known]
    names = short if len(set(short)) == len(known) else [joined(pair) for pair in known]
    named = dict(zip(known, names, strict=True))
    parameters = {
        PAIRED if name == statistics.PAIR[0] else name: names if name in statistics.PAIR else found
        for name, found in sweep.parameters.items()
        if name != statistics.PAIR[1]
    }
    members = []
    for member, own in zip(sweep.members, pairs, strict=True):
        settings = {
            name: value for name, value in member.settings.items() if name not in statistics.PAIR
        }
        pair = named.get(own)
        members.append(member._replace(settings=settings | ({PAIRED: pair} if pair else {})))
    return sweep._replace(parameters=parameters, members=members)


def _measure(name: str, scores: Mapping[str, Description]) -> Json:
    """Returns what the page says of a column that is compared."""
    if name in scores:
        own = scores[name]
        return {
            "name": name,
            "label": own["label"],
            "what": own["meaning"],
            "isLoss": False,
            "higher": own["higher_is_better"],
        }
    return {
        "name": name,
        "label": LOSSES[name][1],
        "what": "of the run's own objective; compares only where that is the same",
        "isLoss": True,
        "higher": False,
    }


def _parameter(name: str, levels: Sequence[str]) -> Json:
    numeric = all(is_number(level) for level in levels)
    return {"name": name, "levels": levels, "labels": _labels(name, levels), "numeric": numeric}


def _labels(name: str, levels: Sequence[str]) -> list[str]:
    """Returns how levels are shown: files by their names, long numbers by four digits.

    Where that would not tell them apart they are shown as they are.
    """
    if name in NAMES_OF_FILES:
        short = [Path(level).name or level for level in levels]
    else:
        short = [
            plain(f"{float(level):.4g}") if len(level) > 7 and is_number(level) else level
            for level in levels
        ]
    return short if len(set(short)) == len(levels) else list(levels)


def _pictures(path: Path) -> tuple[Json, str]:
    """Returns a small picture with its size, and a large one."""
    image = images.load(path)
    height, width = image.shape[:2]
    shown = {"uri": images.data_uri(image, THUMBNAIL), "width": width, "height": height}
    return shown, images.data_uri(image, PICTURE)


def _sources(member: Member, known: dict[str, Json | None]) -> list[list[int]]:
    """Returns which photographs and which paintings a run is of, as places in `known`.

    Args:
      member: a finished run.
      known: what was read so far, by file; what is new is added, None where it cannot be read.
    """
    config = (member.result or {}).get("config", {})
    found: list[list[int]] = []
    for name in statistics.PAIR:
        given = config.get(name)
        paths = [str(path) for path in (given if isinstance(given, list) else [given]) if path]
        for path in paths:
            if path not in known:
                known[path] = _source(path)
        found.append([list(known).index(path) for path in paths if known[path]])
    return found


def _source(path: str) -> Json | None:
    try:
        image = images.load(path)
    except NstyleError:  # moved or deleted since the run
        return None
    height, width = image.shape[:2]
    uri = images.data_uri(image, SOURCE)
    return {"uri": uri, "name": Path(path).name, "width": width, "height": height}


def _trace(path: Path) -> dict[str, list[float | None]]:
    """Returns some rows of a trace, evenly spaced with the first and the last, as columns."""
    frame = pd.read_csv(path)
    kept = np.linspace(0, len(frame) - 1, min(len(frame), TRACE_POINTS)).round().astype(int)
    thinned = frame.iloc[kept]
    terms = [name for name in frame if name == "step" or name not in _NOT_TERMS]
    return {name: [number(value) for value in thinned[name]] for name in terms}


def _shares(sweep: Sweep, frame: pd.DataFrame) -> list[Json]:
    """Returns which terms make up the loss of each setting, at the first row and at the best.

    Means over seeds, then over pairs of pictures.
    """
    treatments = [name for name in sweep.varied if name not in REPLICATES]
    pair = [name for name in statistics.PAIR if name in frame]
    rows = []
    for member, own in zip(sweep.done, frame[[*treatments, *pair]].to_dict("records"), strict=True):
        result = member.result or {}
        for when, row in (("start", _first_row(member.folder)), ("end", result["best"])):
            shares = _shares_of(row, result.get("weights"))
            rows += [own | {"when": when, "term": term, "share": shares[term]} for term in shares]
    if not rows:
        return []
    long = pd.DataFrame(rows)
    units = long.pivot_table(
        "share", [*treatments, *pair, "when"], "term", fill_value=0, sort=False, observed=True
    )
    means = units.groupby(level=[*treatments, "when"], sort=False, observed=True).mean()
    found: dict[tuple[Any, ...], Json] = {}
    for key, row in means.iterrows():
        *levels, when = key if isinstance(key, tuple) else (key,)
        at = position(sweep, dict(zip(treatments, levels, strict=True)))
        setting = found.setdefault(tuple(levels), {"at": at})
        setting[when] = {term: number(share) for term, share in row.items()}
    return sorted(found.values(), key=lambda setting: setting["at"])


def _shares_of(row: Mapping[str, Any], weights: Mapping[str, Any] | None) -> dict[str, float]:
    """Returns the share of each term in the loss of a row; without weights, of content and style.

    Args:
      row: of a trace; nothing where its loss is not above zero.
      weights: by layer of `content` and `style`, and of `tv`; None where they were not written.
    """
    loss = row.get("loss") or 0
    if not loss > 0:
        return {}
    if weights:
        terms = {
            f"{kind}/{layer}": weight * row[f"{kind}/{layer}"]
            for kind in statistics.PAIR
            for layer, weight in weights.get(kind, {}).items()
            if f"{kind}/{layer}" in row
        }
        terms["tv"] = weights.get("tv", 0) * row.get("tv/raw", 0)
    else:
        kinds = {name.partition("/")[0] for name in row if "/" in name}
        terms = {name: row.get(name) or 0 for name in (*statistics.PAIR, "tv") if name in kinds}
    shares = {name: float(term / loss) for name, term in terms.items()}
    rest = 1 - sum(shares.values())
    return shares | ({"other": rest} if rest > 1e-3 else {})


def _first_row(folder: Path) -> Json:
    return next(iter(pd.read_csv(folder / "trace.csv", nrows=1).to_dict("records")), {})


def _environment(done: Sequence[Member]) -> dict[str, str]:
    """Returns devices and versions; where runs differ, all that there are."""
    found: dict[str, dict[str, None]] = {}
    for member in done:
        for name, value in (member.result or {}).get("environment", {}).items():
            found.setdefault(name, {})[str(value)] = None
    return {name: ", ".join(values) for name, values in found.items()}

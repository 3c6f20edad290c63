"""The report of a sweep: its runs as a table, and as one page that opens without a network.

`nstyle-report SWEEP` writes into the sweep's folder

    index.html       pictures, loss curves, trade-offs, statistics and every run with its command
    table.csv        a row for each finished run
    table.parquet    the same, where pyarrow is installed

The page holds its pictures and its code. Its charts are drawn by a few functions of its own rather
than by Plotly, whose script alone is larger than a report of a hundred runs, and whose points the
keyboard does not reach.
"""

import html
import importlib.util
import itertools
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pandas as pd

from nstyle import images
from nstyle.errors import NstyleError
from nstyle.files import path_exists, write_atomic
from nstyle.process.command import LineParser, run_command
from nstyle.process.progress import watched
from nstyle.report import statistics
from nstyle.report.pages import as_json, filled
from nstyle.runs import store, stored
from nstyle.scores import Description

THUMBNAIL, SOURCE, PICTURE = 160, 256, 512  # longest sides in pixels
TRACE_POINTS = 100

#: What else a run ends with: column of the table, column of the trace, label.
LOSSES = {
    "loss": ("loss", "loss"),
    "loss_content": ("content", "content loss"),
    "loss_style": ("style", "style loss"),
    "loss_tv": ("tv", "total variation"),
    "content_left": ("content_left", "share of the photograph unexplained"),
    "style_left": ("style_left", "share of the style distance left"),
}

#: Those that papers' recipes and old runs do not have.
_OPTIONAL = ("content_left", "style_left")

#: What stands for photograph and painting on the page where few of their combinations exist.
_PAIRED = "pair"

#: Parameters that repeat a comparison rather than being compared.
REPLICATES = (*statistics.PAIR, _PAIRED, "seed")

#: Parameters whose values are files, though their names may read as numbers.
NAMES_OF_FILES = (*statistics.PAIR, "init")

#: What is compared at an equal trade-off, along the first of these parameters that is varied.
KEPT = "lpips_content"
WEIGHTS = ("style_weight", "content_weight")

_NOT_TERMS = ("step", "size", "best_loss", "gradient_norm", "restarts")


class Member(NamedTuple):
    """A run of a sweep.

    Attributes:
      folder: where it is, or would be.
      settings: the value of each parameter, as text.
      result: its `result.json`; None until it is finished, and where its files are damaged.
      scores: of its picture, where it has been scored.
      measures: what each of these is; see `scores.described`.
    """

    folder: Path
    settings: dict[str, str]
    result: dict[str, Any] | None
    scores: dict[str, float | None]
    measures: dict[str, Description]


class Sweep(NamedTuple):
    """Runs that belong together.

    Attributes:
      name: for the title.
      command: that makes it again; empty for a plain folder of runs.
      parameters: the levels of each parameter, in their order.
      members: its runs, finished or not.
    """

    name: str
    command: str
    parameters: dict[str, list[str]]
    members: list[Member]

    @property
    def done(self) -> list[Member]:
        """The finished runs."""
        return [member for member in self.members if member.result is not None]

    @property
    def varied(self) -> list[str]:
        """The parameters of more than one level."""
        return [name for name, levels in self.parameters.items() if len(levels) > 1]

    @property
    def measures(self) -> dict[str, Description]:
        """What each score is that a finished run has."""
        return {name: own for member in self.done for name, own in member.measures.items()}


def main() -> None:
    """Runs `nstyle-report` and exits: 0 done, 2 wrong input, 130 interrupted."""
    run_command("nstyle-report", _main)


def _main(arguments: list[str]) -> None:
    parser = LineParser("nstyle-report", description="Writes the page and the table of a sweep.")
    parser.add_argument("sweep", type=Path, help="a sweep's folder, or any folder of runs")
    parser.add_argument("--out", type=Path, help="where to write; by default into the sweep")
    options = parser.parse_args(arguments)
    for path in write(options.sweep.expanduser(), options.out and options.out.expanduser()):
        print(path)


def write(folder: Path, out: Path | None = None) -> list[Path]:
    """Writes the report of a sweep and returns the paths of its files.

    Args:
      folder: a sweep's folder, or a folder of runs.
      out: where to write; None for `folder`.

    Raises:
      NstyleError: there is no such folder, nothing in it is finished, its `sweep.json` is damaged,
        or `out` cannot be written.
    """
    out = out or folder
    sweep = read(folder)
    if not sweep.done:
        raise NstyleError(f"sweep: none of the {len(sweep.members)} runs of {folder} is finished")
    frame = table(sweep)
    files = {
        "index.html": page(sweep, frame, out).encode(errors="backslashreplace"),
        "table.csv": frame.to_csv(index=False).encode(),
    }
    if importlib.util.find_spec("pyarrow"):
        files["table.parquet"] = frame.to_parquet(engine="pyarrow", index=False)
    else:
        print("nstyle-report: note: no table.parquet, pyarrow is not installed", file=sys.stderr)
    for name, content in files.items():
        write_atomic(out / name, content)
    return [out / name for name in files]


def read(folder: Path) -> Sweep:
    """Reads which runs a sweep has and how they ended.

    A folder without a `sweep.json` is taken as a folder of runs, whose parameters are the settings
    that differ among those finished.

    Raises:
      NstyleError: there is no such folder, it holds no runs, or its `sweep.json` is damaged.
    """
    if not path_exists(str(folder)):
        raise NstyleError(f"sweep: there is no folder {str(folder)!r}{_hint(folder)}")
    declared = stored.read_json(folder / "sweep.json", "sweep")
    if declared is not None:
        return _declared(folder, declared)
    files = [*folder.glob("*/config.yaml"), *folder.glob("*/result.json")]
    folders = sorted({path.parent for path in files})
    if not folders:
        raise NstyleError(f"sweep: {str(folder)!r} holds neither a sweep.json nor runs")
    found = {path: _found(path) for path in folders}
    flat = {
        path: _written(_flat(result["config"])) for path, (result, *_) in found.items() if result
    }
    names = dict.fromkeys(name for settings in flat.values() for name in settings)
    levels = {
        name: _in_order(sorted({settings.get(name, "unset") for settings in flat.values()}))
        for name in names
    }
    parameters = {name: found for name, found in levels.items() if len(found) > 1}
    members = [
        Member(
            path,
            {name: flat[path].get(name, "unset") for name in parameters if path in flat},
            *found[path],
        )
        for path in folders
    ]
    return Sweep(folder.resolve().name, "", parameters, members)


def _declared(folder: Path, content: Mapping[str, Any]) -> Sweep:
    targets = [Path(os.path.normpath(folder / run["folder"])) for run in content["runs"]]
    found = {target: _found(target) for target in dict.fromkeys(targets)}
    members = [
        Member(target, _written(run["settings"]), *found[target])
        for target, run in zip(targets, content["runs"], strict=True)
    ]
    parameters = {
        name: _in_order(
            [
                *(_written({name: level})[name] for level in levels),
                *(member.settings[name] for member in members),
            ]
        )
        for name, levels in content["parameters"].items()
    }
    return Sweep(content["name"], content["command"], parameters, members)


def _found(
    folder: Path,
) -> tuple[dict[str, Any] | None, dict[str, float | None], dict[str, Description]]:
    """Returns the result of a run, its scores, and what these are.

    Nothing, and a note, where a file is damaged.
    """
    try:
        result = store.result(folder)
        if result is None:
            return None, {}, {}
        shown = ("trace.csv", "result.png")
        stored.check(folder, {name: result["files"][name] for name in shown})
        scores = store.scores(folder, result)
    except stored.DamagedError as error:
        print(f"nstyle-report: note: a run is left out: {error}", file=sys.stderr)
        return None, {}, {}
    if scores is None:
        return result, {}, {}
    return result, scores["scores"], scores["measures"]


def _hint(folder: Path) -> str:
    """Returns which sweep may have been meant, with or without the hash in its name."""
    there = sorted({*folder.parent.glob("*/sweep.json"), *Path("runs/sweeps").glob("*/sweep.json")})
    names = {path.parent.name.rpartition("-")[0]: path.parent for path in there}
    names |= {path.parent.name: path.parent for path in there}
    near = get_close_matches(folder.name, names, n=1)
    hint = f"; did you mean {str(names[near[0]])!r}?" if near else ""
    sweeps = ", ".join(path.parent.name for path in there[:10])
    return f"{hint} (sweeps: {sweeps})" if there else hint


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns nested settings as text under dotted names."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value if isinstance(value, str) else json.dumps(value)
    return found


def _in_order(levels: Iterable[str]) -> list[str]:
    """Returns levels once each: numbers by size where there are no others, else as they come.

    `unset` and `null` are last.
    """
    found = list(dict.fromkeys(levels))
    known = [level for level in found if level not in ("unset", "null")]
    if all(_is_number(level) for level in known):
        return sorted(known, key=float) + [level for level in found if level not in known]
    return found


def _written(settings: Mapping[str, str]) -> dict[str, str]:
    """Returns settings with each number in one form, so that 1e+06 and 1000000 are one level."""
    return {
        name: _shown(value) if name in NAMES_OF_FILES else _plain(value)
        for name, value in settings.items()
    }


def _shown(name: str) -> str:
    """Returns a file's name as text: bytes of it that are not UTF-8 as escapes."""
    return name.encode(errors="backslashreplace").decode()


def _plain(text: str) -> str:
    """Returns a number without an exponent where it has few digits; other texts as they are."""
    if not _is_number(text):
        return text
    number = float(text)
    if not number.is_integer():
        return repr(number)
    try:
        return str(int(text))  # exact, however long
    except ValueError:
        return str(int(number)) if abs(number) < 1e16 else repr(number)


def table(sweep: Sweep) -> pd.DataFrame:
    """Returns a row for each finished run.

    The columns are the parameters, as categories in their order; the scores; `loss` and its
    weighted parts at the best step, with `content_left` and `style_left` where there are such;
    `best_step`; the terms before their weights, such as
    `style/conv1_1`; and how the run went: stop, steps_done, seconds, compiles, folder, command.
    """
    rows = []
    for member in sweep.done:
        result = member.result or {}
        best = result["best"]
        raw = {name: value for name, value in best.items() if "/" in name}
        rows.append(
            member.settings
            | dict.fromkeys(sweep.measures)
            | member.scores
            | {name: best.get(term) for name, (term, _) in LOSSES.items()}
            | {"best_step": best["step"]}
            | raw
            | {
                "stop": result["stop"],
                "steps_done": result["steps"],
                "seconds": result.get("seconds"),
                "compiles": result.get("compiles"),
                "folder": _shown(str(member.folder)),
                "command": _shown(result.get("command", "")),
            }
        )
    frame = pd.DataFrame(rows)
    frame = frame.drop(columns=[name for name in _OPTIONAL if frame[name].isna().all()])
    last = ["stop", "steps_done", "seconds", "compiles", "folder", "command"]
    frame = frame[[name for name in frame if name not in last] + last]
    numbers = [name for name in frame if name not in (*sweep.parameters, "stop", *last[4:])]
    frame[numbers] = frame[numbers].apply(pd.to_numeric)
    for name, levels in sweep.parameters.items():
        frame[name] = pd.Categorical(frame[name], levels, ordered=False)
    return frame


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
    sources: dict[str, dict[str, Any] | None] = {}
    rows = frame.to_dict("records")
    for member, row in watched(list(zip(drawn.done, rows, strict=True)), "reading"):
        thumbnail, picture = _pictures(member.folder / "result.png")
        pictures.append(picture)
        traces.append(_trace(member.folder / "trace.csv"))
        shown.append(
            {
                "at": _position(drawn, member.settings),
                "values": [_number(row[name]) for name in measures],
                "thumbnail": thumbnail,
                "sources": _sources(member, sources),
                "link": quote(os.fsencode(os.path.relpath(member.folder, out))),
                "folder": member.folder.name,
            }
            | {name: _number(row[name]) for name in ("steps_done", "seconds", "compiles")}
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
            {"at": _position(drawn, member.settings), "folder": member.folder.name}
            for member in drawn.members
            if member.result is None
        ],
        "shares": _shares(drawn, frame),
        **_trade(drawn, frame, measures),
        **_statistics(sweep, frame, scores),
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
    short = [_joined(Path(name).name for name in pair) for pair in known]
    names = short if len(set(short)) == len(known) else [_joined(pair) for pair in known]
    named = dict(zip(known, names, strict=True))
    parameters = {
        _PAIRED if name == statistics.PAIR[0] else name: names if name in statistics.PAIR else found
        for name, found in sweep.parameters.items()
        if name != statistics.PAIR[1]
    }
    members = []
    for member, own in zip(sweep.members, pairs, strict=True):
        settings = {
            name: value for name, value in member.settings.items() if name not in statistics.PAIR
        }
        pair = named.get(own)
        members.append(member._replace(settings=settings | ({_PAIRED: pair} if pair else {})))
    return sweep._replace(parameters=parameters, members=members)


def _joined(pair: Iterable[str]) -> str:
    return " with ".join(pair)


def _measure(name: str, scores: Mapping[str, Description]) -> dict[str, Any]:
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


def _position(sweep: Sweep, settings: Mapping[str, str]) -> list[int]:
    """Returns the index of the level of each varied parameter; -1 where that is not known."""
    return [
        sweep.parameters[name].index(settings[name]) if name in settings else -1
        for name in sweep.varied
    ]


def _parameter(name: str, levels: Sequence[str]) -> dict[str, Any]:
    numeric = all(_is_number(level) for level in levels)
    return {"name": name, "levels": levels, "labels": _labels(name, levels), "numeric": numeric}


def _labels(name: str, levels: Sequence[str]) -> list[str]:
    """Returns how levels are shown: files by their names, long numbers by four digits.

    Where that would not tell them apart they are shown as they are.
    """
    if name in NAMES_OF_FILES:
        short = [Path(level).name or level for level in levels]
    else:
        short = [
            _plain(f"{float(level):.4g}") if len(level) > 7 and _is_number(level) else level
            for level in levels
        ]
    return short if len(set(short)) == len(levels) else list(levels)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _pictures(path: Path) -> tuple[dict[str, Any], str]:
    """Returns a small picture with its size, and a large one."""
    image = images.load(path)
    height, width = image.shape[:2]
    shown = {"uri": images.data_uri(image, THUMBNAIL), "width": width, "height": height}
    return shown, images.data_uri(image, PICTURE)


def _sources(member: Member, known: dict[str, dict[str, Any] | None]) -> list[list[int]]:
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


def _source(path: str) -> dict[str, Any] | None:
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
    return {name: [_number(value) for value in thinned[name]] for name in terms}


def _shares(sweep: Sweep, frame: pd.DataFrame) -> list[dict[str, Any]]:
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
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for key, row in means.iterrows():
        *levels, when = key if isinstance(key, tuple) else (key,)
        at = _position(sweep, dict(zip(treatments, levels, strict=True)))
        setting = found.setdefault(tuple(levels), {"at": at})
        setting[when] = {term: _number(share) for term, share in row.items()}
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


def _first_row(folder: Path) -> dict[str, Any]:
    return next(iter(pd.read_csv(folder / "trace.csv", nrows=1).to_dict("records")), {})


def _number(value: float, digits: int = 5) -> float | None:
    """Returns a number as JSON can hold it, with a few significant digits."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _environment(done: Sequence[Member]) -> dict[str, str]:
    """Returns devices and versions; where runs differ, all that there are."""
    found: dict[str, dict[str, None]] = {}
    for member in done:
        for name, value in (member.result or {}).get("environment", {}).items():
            found.setdefault(name, {})[str(value)] = None
    return {name: ", ".join(values) for name, values in found.items()}


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


def _trade(sweep: Sweep, frame: pd.DataFrame, measures: Sequence[str]) -> dict[str, Any]:
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
            "at": _position(sweep, dict(zip(treatments, key, strict=True))),
            "values": [_number(value) for value in row],
        }
        for key, row in zip(keys, means.to_numpy(float), strict=True)
    ]
    return {"fronts": _fronts(means, measures, sweep.measures), "settings": settings}


def _statistics(sweep: Sweep, frame: pd.DataFrame, scores: Sequence[str]) -> dict[str, Any]:
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
        "pairs": [_joined(Path(name).name for name in pair) for pair in names],
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


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {name: _rounded(value) for name, value in record.items()}
        for record in frame.to_dict("records")
    ]


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return _number(value) if isinstance(value, float) else value

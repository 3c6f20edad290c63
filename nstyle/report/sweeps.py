"""What a sweep's folder holds: its runs, how they ended, and how they score."""

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from nstyle.errors import NstyleError
from nstyle.files import Json, path_exists, shown
from nstyle.report import statistics
from nstyle.runs import store, stored
from nstyle.scores import Description

#: Parameters whose values are files, though their names may read as numbers.
NAMES_OF_FILES = (*statistics.PAIR, "init")


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
    result: Json | None
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


def read(folder: Path) -> Sweep:
    """Reads which runs a sweep has and how they ended.

    A folder without a `sweep.json` is taken as a run, or a folder of runs, whose parameters are the
    settings that differ among those finished.

    Raises:
      NstyleError: there is no such folder, it holds no runs, or its `sweep.json` is damaged.
    """
    if not path_exists(str(folder)):
        raise NstyleError(f"sweep: there is no folder {str(folder)!r}{_hint(folder)}")
    declared = stored.read_json(folder / "sweep.json", "sweep")
    if declared is not None:
        return _declared(folder, declared)
    places = ("result.json", "*/result.json", "*/config.yaml")  # of a run itself, or of several
    files = [path for place in places for path in folder.glob(place)]
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
) -> tuple[Json | None, dict[str, float | None], dict[str, Description]]:
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
    """Returns which sweep or run may have been meant, with or without the hash in its name."""
    there = sorted({*folder.parent.glob("*/sweep.json"), *Path("runs/sweeps").glob("*/sweep.json")})
    runs = sorted(folder.parent.glob("*/result.json"))
    names = {path.parent.name.rpartition("-")[0]: path.parent for path in (*runs, *there)}
    names |= {path.parent.name: path.parent for path in (*runs, *there)}
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
    if all(is_number(level) for level in known):
        return sorted(known, key=float) + [level for level in found if level not in known]
    return found


def _written(settings: Mapping[str, str]) -> dict[str, str]:
    """Returns settings with each number in one form, so that 1e+06 and 1000000 are one level."""
    return {
        name: shown(value) if name in NAMES_OF_FILES else plain(value)
        for name, value in settings.items()
    }


def plain(text: str) -> str:
    """Returns a number without an exponent where it has few digits; other texts as they are."""
    if not is_number(text):
        return text
    number = float(text)
    if not number.is_integer():
        return repr(number)
    try:
        return str(int(text))  # exact, however long
    except ValueError:
        return str(int(number)) if abs(number) < 1e16 else repr(number)


def is_number(text: str) -> bool:
    """Says whether a value reads as a number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False

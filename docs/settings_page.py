"""The page of all settings: from the YAML files with their comments, and from the records."""

import math
import pkgutil
import re
from dataclasses import Field, fields
from typing import Any

import yaml

from nstyle.config import KINDS, config_dir
from nstyle.records import Record
from nstyle.scores import SCORES
from nstyle.trackers import Tracker

HEAD = """# Every setting

Made from the configs themselves; defaults are those of `recipe=default`. `nstyle --cfg job` prints
the values of a run.

"""


def page() -> str:
    """Returns the page in Markdown."""
    return HEAD + _main() + "".join(map(_group, (*KINDS, Tracker))) + _scores()


def _main() -> str:
    """The settings of `configs/config.yaml`, by its headings, with its comments."""
    text = (config_dir() / "config.yaml").read_text()
    body = text[text.index("# Pictures in and out") : text.index("# Each run writes")]
    recipe = yaml.safe_load((config_dir() / "recipe" / "default.yaml").read_text())
    inner = {f"pyramid.{name}": value for name, value in recipe.pop("pyramid").items()}
    own = {
        name: value for name, value in recipe.items() if name not in ("defaults", "recipe")
    } | inner
    found = []
    for block in re.split(r"\n\n+", body.strip()):
        lines = block.split("\n")
        heading = [line[2:] for line in lines if line.startswith("# ")]
        title = " ".join(heading)
        short, _, rest = title.partition(": ") if len(title) > 60 else (title, "", "")
        found.append(
            f"\n## {short}\n\n{rest[:1].upper() + rest[1:]}\n" if rest else f"\n## {short}\n"
        )
        found.append("\n| setting | default | |\n| --- | --- | --- |\n")
        parent, row = "", None
        for line in lines:
            if match := re.match(r"(\s*)(\w+):\s*(.*?)(?:\s+#\s*(.*))?$", line):
                indent, name, value, comment = match.groups()
                if not indent:
                    parent = "" if value else f"{name}."
                if value:
                    full = f"{parent if indent else ''}{name}"
                    default = _yaml(own.pop(full)) if full in own else value
                    row = [f"`{full}`", f"`{default}`", comment or ""]
                    found.append(row)
            elif (match := re.match(r"\s+#\s*(.*)", line)) and row:
                row[2] += f" {match[1]}"
    rows = [row if isinstance(row, str) else _row(*row) for row in found]
    rest = "".join(f"| `{name}` | `{_yaml(value)}` |\n" for name, value in own.items())
    return (
        "".join(rows)
        + "\n## What a recipe sets besides\n\n| setting | default |\n| --- | --- |\n"
        + rest
    )


def _group(kind: type[Record]) -> str:
    """The options of a config group: what each of its YAML files chooses."""
    text = f"\n## {kind.group}\n\n| `{kind.group}=` | what | options |\n| --- | --- | --- |\n"
    for path in sorted((config_dir() / kind.group).glob("*.yaml")):
        content = path.read_text()
        comments = [line[2:] for line in content.split("\n") if line.startswith("# ")]
        own = yaml.safe_load(content)
        if "_target_" in own:
            record = pkgutil.resolve_name(own["_target_"])
            options = ", ".join(_option(kind.group, option) for option in fields(record))
        else:  # another file of the group with other values
            (base,) = own.pop("defaults")
            values = ", ".join(f"`{name}={value}`" for name, value in own.items())
            options = f"as `{base}`, with {values}"
        text += _row(f"`{path.stem}`", " ".join(comments), options)
    return text


def _option(group: str, option: Field[Any]) -> str:
    allowed = option.metadata.get("allowed")
    low, high = option.metadata.get("range", (None, None))
    if allowed:
        which = " or ".join(map(str, allowed))
    elif low is None:
        which = "a list of names" if option.metadata.get("records") else "a name"
    else:
        which = f"from {low:g}" + ("" if math.isinf(high) else f" to {high:g}")
    traced = ", traced" if option.metadata.get("traced") else ""
    return f"`{group}.{option.name}={_yaml(option.default)}` ({which}{traced})"


def _scores() -> str:
    rows = "".join(
        _row(f"`{name}`", own.label, own.meaning, "higher" if own.higher_is_better else "lower")
        for name, own in SCORES.items()
    )
    return "\n## Scores\n\n| name | label | what | better |\n| --- | --- | --- | --- |\n" + rows


def _yaml(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("\n...").strip()


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"

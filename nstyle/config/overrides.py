"""Settings as a user types them: the grammar of Hydra, with names of files of any characters."""

import itertools
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString
from hydra.errors import HydraException

from nstyle.config.groups import group_names, group_options, known_keys
from nstyle.config.schema import LIST_KEYS, PATH_KEYS, TARGET_KEYS, TrainConfig
from nstyle.config.subsets import spelt_out
from nstyle.errors import NstyleError, check_choice, nearest
from nstyle.files import path_exists
from nstyle.images.pairs import pictures_among

#: A part of a value in Hydra's grammar, in which names may have any characters but commas: brackets
#: close where a comma or the end comes next, and open where theirs does; the others are a name's.
_PART = re.compile(
    r"""(?:\[|(?:choice|glob|shuffle|sort)\()(?![^\[(,\])"']*[\])]\s*[^\s,\])])
    | (?:in|ex)clude=
    | (?P<quoted>(?P<quote>["'])(?:\\.|(?!(?P=quote)).)*(?P=quote))(?=\s*(?:[,\])]|\Z))
    | [,\s]
    | [\])](?=[\])\s]*(?:,|\Z))
    | (?P<name>[^,]+?)(?=\s*(?:,|[\])\s]*(?:,|\Z)))""",
    re.VERBOSE | re.DOTALL,
)


def literal(value: Any) -> str:
    """Returns a value of Python in Hydra's grammar."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str() | Path():
            return quote(str(value))
        case np.ndarray():
            return literal(value.tolist())
        case dict():
            return f"{{{','.join(f'{key}: {literal(item)}' for key, item in value.items())}}}"
        case list() | tuple():
            return f"[{','.join(literal(item) for item in value)}]"
        case _:
            return str(value)


def quote(text: str) -> str:
    """Returns `text` as a string of Hydra's grammar: in quotes, unless it reads as itself."""
    override = None if "\\" in text or "${" in text else _parsed(f"x={text}")
    if override is not None and override.value() == text:
        return text
    return QuotedString(escaped(text), Quote.double).with_quotes()


def escaped(text: str) -> str:
    """Returns `text` so that OmegaConf does not take `${` for the start of another setting."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def told(override: str) -> str:
    """Returns an override as one types it: names of files without quotes that `read` can spare."""
    key, value = override.partition("=")[0], _override(override).value()
    if key in PATH_KEYS and isinstance(value, str) and not value.isspace():
        plain = f"{key}={value}"
        if [_override(again).value() for again in read([plain])] == [value]:
            return plain
    return override


def shell(words: Iterable[str]) -> str:
    """Returns words as a shell reads them, bytes that are not UTF-8 as escapes."""

    def word(text: str) -> str:
        escaped = re.sub(r"['\\]", r"\\\g<0>", text)
        coded = re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:x}", escaped)
        return f"$'{coded}'" if coded != escaped else shlex.quote(text)

    return " ".join(map(word, words))


def read(arguments: Iterable[str]) -> list[str]:
    """Returns the settings of a command as overrides in Hydra's grammar.

    Names of files may have any characters. A value is a name where that file is there, or where
    the grammar has no meaning for it, and so is each part of a list or a choice. `glob(*.jpg)`
    becomes a choice, and a single value of a list a list; `subsets(0,1,5)` becomes lists, see
    `subsets.spelt_out`. Overrides are read as themselves.

    Args:
      arguments: `name=value`.

    Raises:
      NstyleError: an argument is something else, gives no value, or gives another one again.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        names = key in PATH_KEYS or key == "images"
        value = value if names else spelt_out(value)
        argument = key + equals + value
        override = _override(f"{key}={_named(key, value)}" if names and value else argument)
        name = override.key_or_group
        if override.is_delete():
            raise NstyleError(f"argument {argument!r}: no setting can be removed; write {name}=...")
        if name in found:
            raise NstyleError(f"{name}: given twice, {found[name]} and {argument}; give one")
        if override.value() == "":
            raise NstyleError(f"{name}: no value given (null, where there may be none)")
        for own, spelt in _of_each(name, _spelt_out(override)):
            if own in found:
                raise NstyleError(f"{own}: given twice, {found[own]} and {argument}; give one")
            found[own] = spelt
    return list(found.values())


def _of_each(key: str, override: str) -> list[tuple[str, str]]:
    """Returns an override by its key; of a list of poolings two, as `pooling=each` has them."""
    if key != "pooling":
        return [(key, override)]
    values = values_of(_override(override))
    if not any(value.startswith("[") for value in values):
        return [(key, override)]
    lists = ",".join(value if value.startswith("[") else f"[{value}]" for value in values)
    return [(key, f"{key}=each"), (f"{key}.pools", f"{key}.pools={lists}")]


def _named(key: str, value: str) -> str:
    """Returns a value in Hydra's grammar, names of files in quotes where they need them."""
    whole = _PART.fullmatch(value)
    if value == "null" or (whole and whole["quoted"]):
        return value
    if key in TARGET_KEYS or path_exists(value):
        return quote(value)

    def part(match: re.Match[str]) -> str:
        name = match["name"]
        if not name or name == "null" or (_parsed(f"x={name}") and not path_exists(name)):
            return match[0]
        return quote(name)

    parts = _PART.sub(part, value)
    return parts if _parsed(f"x={parts}") else quote(value)


def _spelt_out(override: Override) -> str:
    """Returns an override without what Hydra has no list or no options for."""
    key, value = override.key_or_group, override.value()
    if isinstance(value, Glob):
        names = _matching(key, value)
        if not names:
            raise NstyleError(f"{key}: there is nothing for {override.get_value_string()}")
        return f"{key}={','.join(map(quote, names))}"
    assert override.input_line is not None
    if key not in LIST_KEYS:
        return override.input_line
    lists = [
        value if value == "null" or value[0] in "[$" else f"[{value}]"
        for value in values_of(override)
    ]
    return f"{key}={','.join(lists)}"


def _matching(key: str, glob: Glob) -> list[str]:
    """Returns the options of a group, or the pictures, that a pattern stands for."""
    included, excluded = (
        [getattr(pattern, "text", pattern) for pattern in patterns]  # of a `QuotedString`
        for patterns in (glob.include, glob.exclude)
    )
    if key in group_names():
        return Glob(included, excluded).filter(group_options(key))
    if key not in PATH_KEYS:
        raise NstyleError(f"{key}: glob is for pictures and for {', '.join(group_names())}")

    def files(patterns: list[str]) -> set[Path]:
        paths = [Path(pattern).expanduser() for pattern in patterns]
        found = (Path(path.anchor).glob(str(path.relative_to(path.anchor))) for path in paths)
        return {file for files in found for file in files}

    return pictures_among(files(included) - files(excluded))


def values_of(override: Override) -> list[str]:
    """Returns the values that an override stands for, in Hydra's grammar.

    Raises:
      NstyleError: it is an interval, or there are none.
    """
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if not override.is_discrete_sweep():
        raise NstyleError(
            f"{override.key_or_group}: {override.input_line} is an interval to search in;"
            " list values, or use a search: hydra/sweeper=optuna"
        )
    values = list(override.sweep_string_iterator())
    if not values:
        raise NstyleError(f"{override.key_or_group}: there is no value in {override.input_line}")
    return values


def choices_of(settings: Iterable[str]) -> dict[str, list[str]]:
    """Returns the values of each setting, in Hydra's grammar.

    Raises:
      NstyleError: see `values_of`.
    """
    return {
        override.get_key_element(): values_of(override)
        for override in OverridesParser.create().parse_overrides(list(settings))
    }


def combinations(settings: Iterable[str]) -> list[tuple[dict[str, str], list[str]]]:
    """Returns for each combination of values those that differ between them, and all settings.

    Args:
      settings: in Hydra's grammar, with lists of values, `range()` and the like.

    Raises:
      NstyleError: see `values_of`.
    """
    choices = choices_of(settings)
    swept = [key for key, values in choices.items() if len(values) > 1]
    found = []
    for values in itertools.product(*choices.values()):
        own = dict(zip(choices, values, strict=True))
        differs = {key: own[key] for key in swept}
        found.append((differs, [f"{key}={value}" for key, value in own.items()]))
    return found


def folder_name(swept: Mapping[str, str]) -> str:
    """Returns the name of a folder for the values that differ: `seed=0,style_weight=5.0`."""
    return ",".join(
        f"{key}={Path(value).stem if key == 'style' else value}" for key, value in swept.items()
    )


def _parsed(argument: str) -> Override | None:
    """Returns an override, or None where it is none in Hydra's grammar."""
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None


def _override(argument: str) -> Override:
    """Returns an override.

    Raises:
      NstyleError: it is none; with what was perhaps meant.
    """
    override = _parsed(argument)
    if override is not None:
        return override
    name, equals, value = argument.lstrip("-").partition("=")
    if path_exists(argument):
        hint = f"; did you mean content={argument} or style={argument}?"
    elif argument.startswith("-") or not equals:
        known = [*known_keys(), *TrainConfig.__annotations__]
        hint = nearest(f"{name}={value or '...'}", [f"{key}={value or '...'}" for key in known])
    else:
        hint = ""
    raise NstyleError(
        f"argument {argument!r} cannot be read: write name=value, and quote a value that has one of"
        f" , ( ) [ ] {{ }} in it{hint}"
    )


def check_overrides(overrides: Iterable[str]) -> None:
    """Refuses unknown names, unknown options of groups, and what is not Hydra's to say here.

    Args:
      overrides: from `read`.

    Raises:
      NstyleError: with the nearest known name.
    """
    known = known_keys()
    for override in map(_override, overrides):
        key = override.key_or_group
        if key == "hydra.run.dir":
            raise NstyleError(f"{key}: a run has its own folder in runs_dir; write runs_dir=FOLDER")
        if key.split(".")[0].split("/")[0] == "hydra":
            continue
        if key not in known:
            near = nearest(key, [*known, "hydra/launcher", "hydra/sweeper"])
            raise NstyleError(f"unknown setting {key!r}{near} (all: nstyle --cfg job)")
        if key in group_names():
            choices = [_override(f"{key}={value}").value() for value in values_of(override)]
            for choice in choices:
                for name in choice if isinstance(choice, list) else [choice]:
                    check_choice(key, str(name), group_options(key))
                    if not isinstance(name, str):
                        raise NstyleError(
                            f"{key}: {name} reads as a number; give its file another name"
                        )
            if key == "experiment" and len(choices) > 1:
                raise NstyleError(
                    f"experiment: one experiment at a time, not {override.input_line!r}"
                )

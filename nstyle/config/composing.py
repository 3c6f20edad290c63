"""Settings from overrides, as Hydra composes them, checked; and what of them decides a result."""

import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from nstyle.config.checks import check, check_files, check_threads
from nstyle.config.chosen import KINDS, Given, record
from nstyle.config.errors import one_line_errors
from nstyle.config.groups import VERSION_BASE, config_dir, own_folder
from nstyle.config.overrides import check_overrides, escaped, literal, quote, read
from nstyle.config.schema import INITS, LOSS_KEYS, NAME_KEYS, OUTPUT_KEYS, TrainConfig, register
from nstyle.errors import NstyleError, check_choice, nearest
from nstyle.files import Json, path_exists
from nstyle.records import Record, check_number
from nstyle.trackers import Tracker

T = TypeVar("T")


def compose(**settings: Any) -> DictConfig:
    """Returns the checked settings of a run, those not named as the recipe has them.

    Args:
      **settings: as on the command line; `None` for no value. `"solver.history_size": 20` sets a
        value inside a group. A pooling, loss, smoothing or solver may be an object:
        `style_loss=MyLoss()`.

    Raises:
      NstyleError: an unknown name, or a value out of its range.
    """
    objects = {key: own for key, own in settings.items() if isinstance(own, Record)}
    plain = {key: value for key, value in settings.items() if key not in objects}
    return _checked(read(f"{key}={literal(value)}" for key, value in plain.items()), objects)


def _checked(
    overrides: list[str], objects: Mapping[str, Record] = MappingProxyType({})
) -> DictConfig:
    """Returns the checked settings of a run.

    Args:
      overrides: in Hydra's grammar.
      objects: records in the place of what a config group names.

    Raises:
      NstyleError: an unknown name, or a value out of its range.
    """
    check_overrides(overrides)
    config = _composed("config", overrides)
    config._set_flag("allow_objects", True if objects else None)
    for key, own in objects.items():
        check_choice("setting that takes an object", key, [kind.group for kind in KINDS])
        config[key] = Given(own)
    check(config)
    return config


def _composed(name: str, overrides: list[str]) -> DictConfig:
    register()
    outer = GlobalHydra.instance().hydra  # an application that is running already, or None
    GlobalHydra.instance().clear()
    try:
        with (
            one_line_errors(),
            hydra.initialize_config_dir(str(config_dir()), **VERSION_BASE),
        ):
            return hydra.compose(name, [*_own_path(), *overrides])
    finally:
        GlobalHydra.instance().hydra = outer


def _own_path() -> list[str]:
    """Returns the override that has Hydra search the user's own folder, if there is one."""
    folder = own_folder()
    return [] if folder is None else [f"hydra.searchpath=[{quote(f'file://{folder}')}]"]


def compose_training(arguments: list[str]) -> tuple[DictConfig, DictConfig]:
    """Returns the checked settings of a training, and those of its losses.

    Unless another is named, the recipe is `johnson2016`, or `super-resolution` where the network
    is to make pictures larger.

    Args:
      arguments: as `read` takes them, names of `TrainConfig` or of `LOSS_KEYS`.

    Returns:
      Settings with the names of `TrainConfig`, and a config of `nstyle` of which `LOSS_KEYS` count.

    Raises:
      NstyleError: an unknown name, or a value out of its range.
    """
    own = list(TrainConfig.__annotations__)
    of_training, of_losses = [], []
    for override in read(arguments):
        key = override.partition("=")[0]
        if key.split(".")[0] in own:
            of_training.append(override)
        elif key.split(".")[0] in LOSS_KEYS:
            of_losses.append(override)
        else:
            known = [*own, *LOSS_KEYS]
            raise NstyleError(
                f"unknown setting {key!r}{nearest(key, known)} (all: nstyle-train --cfg)"
            )
    training = _composed("train", of_training)
    ranges = {
        "size": (8, 4096),
        "batch_size": (1, 4096),
        "steps": (1, 10_000_000),
        "learning_rate": (1e-12, math.inf),
        "final_rate": (0.0, 1.0),
        "seed": (0, 2**32 - 1),
        "checkpoint_every": (0, math.inf),
        "sample_every": (0, math.inf),
    }
    with one_line_errors():
        values = cast(Json, OmegaConf.to_container(training, throw_on_missing=True))
    for key, (low, high) in ranges.items():
        check_number(key, values[key], low, high)
    record(training, Tracker)
    check_threads(values["threads"])
    check_files("style", values["style"])
    recipe = "johnson2016" if training.upscale is None else "super-resolution"
    return training, _checked([f"recipe={recipe}", *of_losses, f"size={training.size}"])


def parse_settings(
    arguments: Iterable[str],
    schema: type[T],
    verbatim: Collection[str],
    ranges: Mapping[str, tuple[float, float]],
) -> tuple[list[str], T]:
    """Returns the words among a command's arguments, and its settings.

    A word is what has no `=`, or names a file or folder that is there.

    Args:
      arguments: words, and settings as `name=value`.
      schema: a dataclass of the settings, each with its default.
      verbatim: settings whose value is taken as it is: the name of a file is no YAML.
      ranges: lowest and highest value of numbers that are not None.

    Raises:
      NstyleError: an unknown name, or a value that is of another type or out of its range.
    """
    names = [option.name for option in fields(cast(Any, schema))]
    settings: Json = {}
    words = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or path_exists(argument):
            words.append(argument)
        elif key not in names:
            raise NstyleError(f"unknown setting {key!r}{nearest(key, names)} ({', '.join(names)})")
        elif key in settings or not value:
            what = f"given twice, again in {argument!r}" if value else "no value given"
            raise NstyleError(f"{key}: {what}")
        else:
            with one_line_errors():
                if key in verbatim:
                    settings[key] = escaped(value)
                else:
                    settings[key] = OmegaConf.from_dotlist([argument])[key]
    with one_line_errors():
        config = cast(T, OmegaConf.to_object(OmegaConf.merge(schema, settings)))
    for key, (low, high) in ranges.items():
        if getattr(config, key) is not None:
            check_number(key, getattr(config, key), low, high)
    return words, config


def files(config: DictConfig, key: str) -> list[str | None]:
    """Returns the files that a setting of `PATH_KEYS` names: none, one, or a list of them."""
    value = config[key]
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def deciding(config: DictConfig) -> Json:
    """Returns the settings that decide the result, as plain containers: records by their names."""
    values = cast(Json, OmegaConf.to_container(config, resolve=True))
    for kind in KINDS:
        values[kind.group] = _named(record(config, kind))
    return {key: value for key, value in values.items() if key not in OUTPUT_KEYS}


def _named(chosen: Record) -> Json:
    """Returns a record as plain containers have it: its name and its options."""

    def plain(value: Any) -> Any:
        if isinstance(value, Record):
            return {
                "name": value.name,
                **{own.name: plain(getattr(value, own.name)) for own in fields(value)},
            }
        return [plain(part) for part in value] if isinstance(value, tuple) else value

    return cast(Json, plain(chosen))


def identifying(config: DictConfig) -> Json:
    """Returns the settings that tell results apart, those aside that the inputs' hashes tell.

    `threads` is one of them, as it decides the last bits of a result. `batch` is none: they depend
    on the runs that happen to be optimised together, which no setting tells; results record how
    many.
    """
    values = {key: value for key, value in deciding(config).items() if key not in NAME_KEYS}
    start = config.init if config.init in INITS else "file"
    return values | {"init": start, "threads": config.threads}


def flat(settings: Mapping[str, Any], prefix: str = "") -> Json:
    """Returns settings without groups: `{"pyramid": {"least": 64}}` as `{"pyramid.least": 64}`.

    The record of a group is by its name, `pooling`, beside its options, `pooling.scale`.
    """
    found: Json = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            options = {name: own for name, own in value.items() if name != "name"}
            found |= {f"{prefix}{key}": value["name"]} if "name" in value else {}
            found |= flat(options, f"{prefix}{key}.")
        else:
            several = isinstance(value, list) and any(isinstance(own, Mapping) for own in value)
            found[f"{prefix}{key}"] = [own["name"] for own in value] if several else value
    return found


class _Dumper(yaml.SafeDumper):
    """Writes names of files that are not UTF-8 too; libyaml, which OmegaConf may use, does not."""

    def text(self, value: str) -> yaml.ScalarNode:
        """Returns a text, in quotes where OmegaConf would read a number."""
        with suppress(ValueError):
            float(value)
            return self.represent_scalar("tag:yaml.org,2002:str", value, style="'")
        return self.represent_str(value)


_Dumper.add_representer(str, _Dumper.text)


def to_yaml(config: Mapping[str, Any] | DictConfig) -> str:
    """Returns settings as YAML; objects are told by their names and options."""
    given = config if isinstance(config, DictConfig) else OmegaConf.create(dict(config))
    values = cast(Json, OmegaConf.to_container(given))
    for key, own in values.items():
        if isinstance(own, Given):
            values[key] = _named(own.record)
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def from_yaml(text: str) -> DictConfig:
    """Returns the settings that `to_yaml` wrote."""
    return OmegaConf.create(cast(Json, yaml.safe_load(text)))


def run_settings(file: Path) -> DictConfig:
    """Returns the settings of a run that are in a file.

    What an earlier version did not know and decides no result is as it is by default.
    """
    config = from_yaml(file.read_text())
    missing = [key for key in OUTPUT_KEYS if key not in config]
    if missing:
        blank = cast(Json, OmegaConf.to_container(compose()))
        config.update({key: blank[key] for key in missing})
    return config

"""The settings of a run: their schema, how they are composed, and the checks before anything runs.

Values live in the YAML files under `configs/`; here are their names, types and ranges. This module
and `cli` are the only ones that import Hydra.
"""

import math
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import hydra
import numpy as np
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nstyle.colour import COLOURS
from nstyle.content_losses import CONTENT_LOSSES, ContentLoss
from nstyle.errors import NstyleError, check_choice, nearest
from nstyle.files import path_exists
from nstyle.images import SIDES, parse_percent, parse_size
from nstyle.pairs import pictures_among
from nstyle.scores import SCORES
from nstyle.solver import LBFGS, SGD, Adam, Method
from nstyle.style_losses import STYLE_LOSSES, StyleLoss
from nstyle.weights import RANDOM

T = TypeVar("T")

#: The rules that Hydra composes by: it asks which before 1.4, and has no others from then on.
VERSION_BASE = {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


@dataclass
class NoiseConfig:
    """See `transfer.Noise`."""

    distribution: str = MISSING
    low: float = MISSING
    high: float = MISSING
    mean: float = MISSING
    std: float = MISSING
    around_mean_pixel: bool = MISSING


@dataclass
class PyramidConfig:
    """See `transfer.coarse_to_fine`."""

    levels: int = MISSING
    factor: float = MISSING
    steps: int = MISSING
    least: int = MISSING
    noise: float = MISSING


@dataclass
class LBFGSConfig:
    """See `solver.LBFGS`."""

    name: str = "lbfgs"
    history_size: int = MISSING
    first_change: float = MISSING
    restart_every: int = MISSING


@dataclass
class AdamConfig:
    """See `solver.Adam`."""

    name: str = "adam"
    learning_rate: float = MISSING
    b1: float = MISSING
    b2: float = MISSING


@dataclass
class SGDConfig:
    """See `solver.SGD`."""

    name: str = "sgd"
    learning_rate: float = MISSING
    decay: float = MISSING
    decay_steps: int = MISSING


@dataclass
class NoSmoothingConfig:
    """Features as they are."""

    name: str = "none"


@dataclass
class SwagConfig:
    """See `losses.softmax_smoothing`."""

    name: str = "swag"
    temperature: float = MISSING


@dataclass
class Config:
    """All settings of a run; `configs/config.yaml` says what each means."""

    recipe: str = MISSING
    experiment: str | None = MISSING

    content: str | None = MISSING
    style: Any = MISSING
    pairs: Any = MISSING
    contents: str | None = MISSING
    styles: str | None = MISSING
    style_blend: list[float] | None = MISSING
    content_mask: str | None = MISSING
    style_mask: Any = MISSING
    mask_softness: float = MISSING
    content_weight_map: str | None = MISSING
    out: str | None = MISSING
    runs_dir: str = MISSING
    save_every: int = MISSING
    checkpoint_every: float = MISSING
    reuse: bool = MISSING
    scores: bool = MISSING
    vgg_score: bool = MISSING
    objectives: list[str] = field(default_factory=list)
    tensorboard: bool = MISSING
    threads: int | None = MISSING
    batch: Any = MISSING
    frozen: list[str] = field(default_factory=list)

    size: Any = MISSING
    size_side: str = MISSING
    style_size: Any = MISSING
    style_rotation: float = MISSING
    colour: str = MISSING

    network: str = MISSING
    weights: str = MISSING
    weights_seed: int = MISSING
    pixels: str | None = MISSING
    pooling: str = MISSING
    pooling_scale: float | None = MISSING
    precision: str = MISSING
    padding: str = MISSING
    rescale: bool = MISSING
    tuned_network: str | None = MISSING
    tuned_pixels: str | None = MISSING

    balance: bool = MISSING
    content_layers: list[str] = field(default_factory=list)
    content_layer_weights: list[float] | None = MISSING
    content_weight: float = MISSING
    content_reduction: str = MISSING
    style_layers: list[str] = field(default_factory=list)
    style_layer_weights: list[float] | None = MISSING
    style_falloff: float = MISSING
    style_weight: float = MISSING
    style_reduction: str = MISSING
    gram_normalization: str = MISSING
    content_loss: Any = MISSING
    style_loss: Any = MISSING
    smoothing: Any = MISSING
    tv_weight: float = MISSING
    tv_kind: str = MISSING
    value_range: float = MISSING

    init: str = MISSING
    init_mixture: float = MISSING
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    seed: int = MISSING

    solver: Any = MISSING
    steps: int = MISSING
    memory: str | None = MISSING
    tile: int | None = MISSING
    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    tolerance: float = MISSING


@dataclass
class TrainConfig:
    """The settings of a training that are not those of its losses; see `configs/train.yaml`."""

    style: Any = MISSING
    images: str | None = MISSING
    out: str | None = MISSING
    size: int = MISSING
    batch_size: int = MISSING
    steps: int = MISSING
    learning_rate: float = MISSING
    final_rate: float = MISSING
    width: int = MISSING
    blocks: int = MISSING
    upsampling: str = MISSING
    border: str = MISSING
    upscale: int | None = MISSING
    seed: int = MISSING
    checkpoint_every: float = MISSING
    sample_every: int = MISSING
    tensorboard: bool = MISSING
    threads: int | None = MISSING


@dataclass
class SweeperConfig:
    """See `sweep.StoreSweeper`."""

    _target_: str = "hydra_plugins._nstyle.StoreSweeper"
    params: dict[str, str] | None = None


#: Settings of `nstyle` that a training has too: what is minimised, and by which network.
LOSS_KEYS = (
    "recipe",
    "style_size",
    "network",
    "weights",
    "weights_seed",
    "pixels",
    "pooling",
    "pooling_scale",
    "precision",
    "padding",
    "rescale",
    "smoothing",
    "balance",
    "content_layers",
    "content_layer_weights",
    "content_weight",
    "content_reduction",
    "content_loss",
    "style_layers",
    "style_layer_weights",
    "style_falloff",
    "style_weight",
    "style_reduction",
    "gram_normalization",
    "style_loss",
    "tv_weight",
    "tv_kind",
    "value_range",
)


def _loss_schema(name: str, loss: type) -> type:
    """Returns the schema of a loss: its options."""
    options = [(option.name, option.type, MISSING) for option in fields(loss)]
    return make_dataclass(f"{loss.__name__}Config", [("name", str, name), *options])


#: By config group and name.
_SCHEMAS: dict[str, Mapping[str, type]] = {
    "solver": {"lbfgs": LBFGSConfig, "adam": AdamConfig, "sgd": SGDConfig},
    "smoothing": {"none": NoSmoothingConfig, "swag": SwagConfig},
    "content_loss": {name: _loss_schema(name, loss) for name, loss in CONTENT_LOSSES.items()},
    "style_loss": {name: _loss_schema(name, loss) for name, loss in STYLE_LOSSES.items()},
}

#: Numbers are float32 in the losses: what is larger would be infinite there.
_LARGEST = 3e38

_LOSS_RANGES = {
    "offset": (0.0, math.inf),
    "bandwidth": (1e-6, math.inf),
    "samples": (1, 16384),
    "directions": (1, 4096),
}

METHODS: dict[str, type[Method]] = {"lbfgs": LBFGS, "adam": Adam, "sgd": SGD}

#: Keys that name what the `content` and `style` of a sweep's runs are; see `pairs.pairs_of`.
PAIR_KEYS = ("pairs", "contents", "styles")

#: Keys that name files; see `read`.
PATH_KEYS = (
    "content",
    "style",
    "content_mask",
    "style_mask",
    "content_weight_map",
    "out",
    "runs_dir",
    "init",
    "weights",
    *PAIR_KEYS,
)

#: Of these, what is still to be made: one name, whatever is in it.
TARGET_KEYS = ("out", "runs_dir")

#: Keys of lists, for which a single value does.
_LIST_KEYS = [key for key, kind in Config.__annotations__.items() if str(kind).startswith("list[")]

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

#: Keys that say where results go and what else is done with them, not what they are.
OUTPUT_KEYS = (
    "out",
    "runs_dir",
    "save_every",
    "checkpoint_every",
    "reuse",
    "scores",
    "vgg_score",
    "objectives",
    "tensorboard",
    "threads",
    "batch",
    "frozen",
    *PAIR_KEYS,
)

#: Keys that only name what other keys say, or files, which are known by their contents.
NAME_KEYS = (
    "recipe",
    "experiment",
    "content",
    "style",
    "content_mask",
    "style_mask",
    "content_weight_map",
    "weights",
    "weights_seed",
    "tuned_network",
    "tuned_pixels",
)

#: Names that `init` takes, besides the file of a picture.
INITS = ("content", "style", "noise", "mixture")


def register() -> None:
    """Puts the schemas where the YAML files find them."""
    store = ConfigStore.instance()
    if "nstyle_schema.yaml" in store.list(""):  # a name is taken once
        return
    store.store(name="nstyle_schema", node=Config)
    store.store(name="train_schema", node=TrainConfig)
    for group, schemas in _SCHEMAS.items():
        for name, options in schemas.items():
            store.store(group=group, name=f"{name}_schema", node=options)
    store.store(group="hydra/sweeper", name="store", node=SweeperConfig)


def config_dir() -> Path:
    """Returns the folder of YAML files: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def group_options(group: str, own_configs: Path | None = None) -> list[str]:
    """Returns the names that a config group offers: the stems of its YAML files."""
    folders = [config_dir(), *([own_configs] if own_configs else [])]
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def compose(**settings: Any) -> DictConfig:
    """Returns the checked settings of a run, those not named as the recipe has them.

    Args:
      **settings: as on the command line; `None` for no value. `"solver.history_size": 20` sets a
        value inside a group.

    Raises:
      NstyleError: an unknown name, or a value out of its range.
    """
    return _checked(read(f"{key}={_literal(value)}" for key, value in settings.items()))


def _checked(overrides: list[str]) -> DictConfig:
    """Returns the checked settings of a run with these overrides, in Hydra's grammar."""
    check_overrides(overrides)
    config = _composed("config", overrides)
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
            return hydra.compose(name, overrides)
    finally:
        GlobalHydra.instance().hydra = outer


def _literal(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str() | Path():
            return quote(str(value))
        case np.ndarray():
            return _literal(value.tolist())
        case dict():
            return f"{{{','.join(f'{key}: {_literal(item)}' for key, item in value.items())}}}"
        case list() | tuple():
            return f"[{','.join(_literal(item) for item in value)}]"
        case _:
            return str(value)


def quote(text: str) -> str:
    """Returns `text` as a string of Hydra's grammar: in quotes, unless it reads as itself."""
    override = None if "\\" in text or "${" in text else _parsed(f"x={text}")
    if override is not None and override.value() == text:
        return text
    return QuotedString(_escaped(text), Quote.double).with_quotes()


def _escaped(text: str) -> str:
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


def read(arguments: Iterable[str], own_configs: Path | None = None) -> list[str]:
    """Returns the settings of a command as overrides in Hydra's grammar.

    Names of files may have any characters. A value is a name where that file is there, or where
    the grammar has no meaning for it, and so is each part of a list or a choice. `glob(*.jpg)`
    becomes a choice, and a single value of a list a list. Overrides are read as themselves.

    Args:
      arguments: `name=value`.
      own_configs: a folder of the user's own, whose YAML files add to the groups.

    Raises:
      NstyleError: an argument is something else, gives no value, or gives another one again.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        names = key in PATH_KEYS or key == "images"
        override = _override(f"{key}={_named(key, value)}" if names and value else argument)
        name = override.key_or_group
        if override.is_delete():
            raise NstyleError(f"argument {argument!r}: no setting can be removed; write {name}=...")
        if name in found:
            raise NstyleError(f"{name}: given twice, {found[name]} and {argument}; give one")
        if override.value() == "":
            raise NstyleError(f"{name}: no value given (null, where there may be none)")
        found[name] = _spelt_out(override, own_configs)
    return list(found.values())


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


def _spelt_out(override: Override, own_configs: Path | None) -> str:
    """Returns an override without what Hydra has no list or no options for."""
    key, value = override.key_or_group, override.value()
    if isinstance(value, Glob):
        names = _matching(key, value, own_configs)
        if not names:
            raise NstyleError(f"{key}: there is nothing for {override.get_value_string()}")
        return f"{key}={','.join(map(quote, names))}"
    assert override.input_line is not None
    if key not in _LIST_KEYS:
        return override.input_line
    lists = [
        value if value == "null" or value[0] in "[$" else f"[{value}]"
        for value in values_of(override)
    ]
    return f"{key}={','.join(lists)}"


def _matching(key: str, glob: Glob, own_configs: Path | None) -> list[str]:
    """Returns the options of a group, or the pictures, that a pattern stands for."""
    included, excluded = (
        [getattr(pattern, "text", pattern) for pattern in patterns]  # of a `QuotedString`
        for patterns in (glob.include, glob.exclude)
    )
    if key in _groups():
        return Glob(included, excluded).filter(group_options(key, own_configs))
    if key not in PATH_KEYS:
        raise NstyleError(f"{key}: glob is for pictures and for {', '.join(_groups())}")

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
        known = [*_known_keys(), *TrainConfig.__annotations__]
        hint = nearest(f"{name}={value or '...'}", [f"{key}={value or '...'}" for key in known])
    else:
        hint = ""
    raise NstyleError(
        f"argument {argument!r} cannot be read: write name=value, and quote a value that has one of"
        f" , ( ) [ ] {{ }} in it{hint}"
    )


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what Hydra and OmegaConf have to say about a wrong value into one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        key = getattr(cause, "full_key", None)
        if key:
            lines = [key, lines[0]]
        raise NstyleError(": ".join(line.rstrip(":") for line in lines[:4])) from error


def check_overrides(overrides: Iterable[str], own_configs: Path | None = None) -> None:
    """Refuses unknown names, unknown options of groups, and what is not Hydra's to say here.

    Args:
      overrides: from `read`.
      own_configs: a folder of the user's own, whose YAML files add to the groups.

    Raises:
      NstyleError: with the nearest known name.
    """
    known = _known_keys()
    for override in map(_override, overrides):
        key = override.key_or_group
        if key == "hydra.run.dir":
            raise NstyleError(f"{key}: a run has its own folder in runs_dir; write runs_dir=FOLDER")
        if key.split(".")[0].split("/")[0] == "hydra":
            continue
        if key not in known:
            raise NstyleError(f"unknown setting {key!r}{nearest(key, known)} (all: nstyle --help)")
        if key in _groups():
            choices = [str(_override(f"{key}={value}").value()) for value in values_of(override)]
            for choice in choices:
                check_choice(key, choice, group_options(key, own_configs))
            if key == "experiment" and len(choices) > 1:
                raise NstyleError(
                    f"experiment: one experiment at a time, not {override.input_line!r}"
                )


def _groups() -> list[str]:
    folders = (path.name for path in config_dir().iterdir() if path.is_dir())
    return sorted(name for name in folders if name != "hydra")


def _known_keys() -> list[str]:
    schemas: dict[str, list[type]] = {
        "": [Config],
        "noise.": [NoiseConfig],
        "pyramid.": [PyramidConfig],
        **{f"{group}.": list(found.values()) for group, found in _SCHEMAS.items()},
    }
    return [
        prefix + name
        for prefix, group in schemas.items()
        for schema in group
        for name in schema.__annotations__
        if not (prefix and name == "name")  # it is the group's: solver=adam
    ]


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
        if key in own:
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
        values = cast(dict[str, Any], OmegaConf.to_container(training, throw_on_missing=True))
    for key, (low, high) in ranges.items():
        _check_number(key, values[key], low, high)
    _check_threads(values["threads"])
    _check_files("style", values["style"])
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
    settings: dict[str, Any] = {}
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
                    settings[key] = _escaped(value)
                else:
                    settings[key] = OmegaConf.from_dotlist([argument])[key]
    with one_line_errors():
        config = cast(T, OmegaConf.to_object(OmegaConf.merge(schema, settings)))
    for key, (low, high) in ranges.items():
        if getattr(config, key) is not None:
            _check_number(key, getattr(config, key), low, high)
    return words, config


def check(config: DictConfig) -> None:
    """Checks every number for its range, and what belongs together.

    Names of layers, poolings and reductions are checked by `objective.Structure`, pictures and
    weights when they are read.

    Raises:
      NstyleError: naming the setting, its value and what is allowed.
    """
    with one_line_errors():
        values = cast(dict[str, Any], OmegaConf.to_container(config, throw_on_missing=True))
    for key in ("content_weight", "style_weight", "tv_weight", "tolerance"):
        _check_number(key, values[key], 0.0, math.inf)
    for key in ("content", "style"):
        _check_layer_weights(values, key)
    _check_number("style_falloff", values["style_falloff"], 0.01, 100.0)
    _check_number("steps", values["steps"], 1, 1_000_000)
    _check_number("save_every", values["save_every"], 0, math.inf)
    _check_number("checkpoint_every", values["checkpoint_every"], 0, math.inf)
    _check_threads(values["threads"])
    _check_batch(values["batch"])
    _check_pictures(values)
    if values["memory"] is not None:
        parse_memory(values["memory"])
    if values["tile"] is not None:
        _check_number("tile", values["tile"], 2, math.inf)
    for objective in values["objectives"]:
        check_choice("objectives", objective, SCORES)
        if objective == "style_gram_vgg16" and not values["vgg_score"]:
            raise NstyleError(f"objectives: {objective} is made with vgg_score=true")
    _check_number("seed", values["seed"], 0, 2**32 - 1)
    _check_number("weights_seed", values["weights_seed"], 0, 2**32 - 1)
    if values["weights_seed"] and values["weights"] != RANDOM:
        raise NstyleError(
            f"weights_seed: {values['weights_seed']} would change nothing with"
            f" weights={values['weights']} (it is of weights={RANDOM})"
        )
    _check_number("value_range", values["value_range"], 1e-3, 1e6)
    _check_number("init_mixture", values["init_mixture"], 0.0, 1.0)
    _check_number("pyramid.levels", values["pyramid"]["levels"], 1, 12)
    _check_number("pyramid.factor", values["pyramid"]["factor"], 1.1, 16.0)
    _check_number("pyramid.steps", values["pyramid"]["steps"], 1, 1_000_000)
    _check_number("pyramid.least", values["pyramid"]["least"], 1, math.inf)
    _check_number("pyramid.noise", values["pyramid"]["noise"], 0, 1)
    for key in ("low", "high", "mean", "std"):
        _check_number(f"noise.{key}", values["noise"][key], -1e6, 1e6)
    _check_any_weight(values)
    parse_size(values["size"])
    _check_style_picture(values)
    if values["pooling_scale"] is not None:
        _check_number("pooling_scale", values["pooling_scale"], 1e-3, 1e3)
        if values["rescale"]:
            raise NstyleError(
                f"pooling_scale: {values['pooling_scale']} with rescale=true, which sets the scale"
                " of every filter after the pools; give one of the two"
            )
    check_choice("size_side", values["size_side"], SIDES)
    method(config)
    content_loss(config)
    style_loss(config)
    smoothing(config)


def _check_pictures(values: dict[str, Any]) -> None:
    for key in PAIR_KEYS:
        if values[key] is not None:
            raise NstyleError(
                f"{key}: names the pictures of many runs: add -m; a single run and a search need"
                " content= and style="
            )
    _check_files("style", values["style"])
    _check_files("style_mask", values["style_mask"], empty=(None,))
    for share in values["style_blend"] or ():
        _check_number("style_blend", share, 0.0, 1e6)
    if values["style_blend"] is not None and not any(values["style_blend"]):
        raise NstyleError(f"style_blend: {values['style_blend']} has no share above 0")
    _check_number("mask_softness", values["mask_softness"], 0.0, 1000.0)
    for key, given in (
        ("style_mask", values["style_mask"]),
        ("mask_softness", values["mask_softness"]),
    ):
        if given and values["content_mask"] is None:
            raise NstyleError(f"{key}: needs a content_mask, whose regions it is for")


def _check_files(key: str, value: Any, empty: tuple[None, ...] = ()) -> None:
    """Refuses what is neither a file, nor None, nor a list of files and of what is `empty`."""
    several = isinstance(value, list)
    entries = value if several else [value]
    allowed = empty if several else (None,)
    if not entries or not all((isinstance(x, str) and x) or x in allowed for x in entries):
        raise NstyleError(f"{key}: {value!r} is neither a file nor a list of files")


def _check_style_picture(values: dict[str, Any]) -> None:
    size, rotation, colour = (values[key] for key in ("style_size", "style_rotation", "colour"))
    if size not in (None, "content") and parse_percent(size) is None:
        parse_size(size)
    _check_number("style_rotation", rotation, -360.0, 360.0)
    if rotation and size == "content":
        raise NstyleError(
            f"style_rotation: {rotation:g} degrees cut the style picture, which style_size=content"
            " wants to have exactly the content's size"
        )
    check_choice("colour", colour, COLOURS)
    for key in ("content_layers", "style_layers"):
        if colour != "none" and not values[key]:
            raise NstyleError(
                f"colour: {colour} is between a photograph and a painting, and {key} is empty here"
            )


def _check_threads(threads: int | None) -> None:
    if threads is not None:
        _check_number("threads", threads, 1, 1024)


def _check_batch(batch: Any) -> None:
    if batch in (None, "auto") or (type(batch) is int and batch >= 1):
        return
    raise NstyleError(f"batch: {batch!r} is neither a number of runs, 1 or more, nor auto nor null")


def parse_memory(text: str) -> int:
    """Returns the bytes of an amount such as `4GiB`, `1.5GB` or `800MiB`.

    Raises:
      NstyleError: it is not such an amount.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([MGT])(i?)B", text)
    if not match:
        raise NstyleError(f"memory: {text!r} is not an amount such as 4GiB, 1.5GB or 800MiB")
    number, prefix, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** (" KMGT".index(prefix)))


def method(config: DictConfig) -> Method:
    """Returns the solver that the settings name.

    Raises:
      NstyleError: a number is out of its range.
    """
    options = cast(dict[str, Any], OmegaConf.to_container(config.solver))
    name = check_choice("solver", options.pop("name"), METHODS)
    ranges = {
        "history_size": (1, 1000),
        "restart_every": (0, math.inf),
        "decay_steps": (1, math.inf),
        "b1": (0.0, 0.999999),
        "b2": (0.0, 0.999999),
    }
    for key, value in options.items():
        low, high = ranges.get(key, (1e-12, math.inf))
        _check_number(f"solver.{key}", value, low, high)
    return METHODS[name](**options)


def style_loss(config: DictConfig) -> StyleLoss:
    """Returns the style loss that the settings name.

    Raises:
      NstyleError: a number is out of its range, or a choice is unknown.
    """
    return _loss(config, "style_loss", STYLE_LOSSES)


def content_loss(config: DictConfig) -> ContentLoss:
    """Returns the content loss that the settings name.

    Raises:
      NstyleError: a number is out of its range.
    """
    return _loss(config, "content_loss", CONTENT_LOSSES)


def smoothing(config: DictConfig) -> float | None:
    """Returns the temperature of the smoothing, None without.

    Raises:
      NstyleError: a number is out of its range.
    """
    options = cast(dict[str, Any], OmegaConf.to_container(config.smoothing))
    if options["name"] == "none":
        return None
    _check_number("smoothing.temperature", options["temperature"], 1e-3, 1e12)
    return float(options["temperature"])


def _loss(config: DictConfig, group: str, losses: Mapping[str, type[T]]) -> T:
    options = cast(dict[str, Any], OmegaConf.to_container(config[group]))
    kind = losses[check_choice(group, options.pop("name"), losses)]
    for key, value in options.items():
        if key in _LOSS_RANGES:
            _check_number(f"{group}.{key}", value, *_LOSS_RANGES[key])
    return kind(**options)


def files(config: DictConfig, key: str) -> list[str | None]:
    """Returns the files that a setting of `PATH_KEYS` names: none, one, or a list of them."""
    value = config[key]
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def deciding(config: DictConfig) -> dict[str, Any]:
    """Returns the settings that decide the result, as plain containers."""
    values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    return {key: value for key, value in values.items() if key not in OUTPUT_KEYS}


def identifying(config: DictConfig) -> dict[str, Any]:
    """Returns the settings that tell results apart, those aside that the inputs' hashes tell.

    `threads` is one of them, as it decides the last bits of a result. `batch` is none: they depend
    on the runs that happen to be optimised together, which no setting tells; results record how
    many.
    """
    values = {key: value for key, value in deciding(config).items() if key not in NAME_KEYS}
    start = config.init if config.init in INITS else "file"
    return values | {"init": start, "threads": config.threads}


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
    """Returns settings as YAML."""
    values = OmegaConf.to_container(OmegaConf.create(cast(dict[str, Any], config)))
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def from_yaml(text: str) -> DictConfig:
    """Returns the settings that `to_yaml` wrote."""
    return OmegaConf.create(cast(dict[str, Any], yaml.safe_load(text)))


def _check_number(key: str, value: float, low: float, high: float) -> None:
    high = min(high, _LARGEST)
    if isinstance(value, str):  # OmegaConf takes a text with ${ in it for any type
        raise NstyleError(f"{key}: {value!r} is not a number")
    if not low <= value <= high:
        allowed = f"at least {low}" if high == _LARGEST > value else f"from {low} to {high}"
        raise NstyleError(f"{key}: {value} is out of range (allowed: a number {allowed})")


def _check_any_weight(values: dict[str, Any]) -> None:
    layers = {
        key: any(values[f"{key}_layer_weights"] or [1.0]) and bool(values[f"{key}_layers"])
        for key in ("content", "style")
    }
    if not values["tv_weight"] and not any(
        values[f"{k}_weight"] and on for k, on in layers.items()
    ):
        raise NstyleError(
            "content_weight, style_weight and tv_weight: every term's weight is 0, there is nothing"
            " to optimise"
        )


def _check_layer_weights(values: dict[str, Any], key: str) -> None:
    layers, weights = values[f"{key}_layers"], values[f"{key}_layer_weights"]
    if weights is None:
        return
    if len(weights) != len(layers):
        raise NstyleError(
            f"{key}_layer_weights: {len(weights)} numbers for {len(layers)} {key}_layers"
            " (give one for each layer, or null for equal ones)"
        )
    for weight in weights:
        _check_number(f"{key}_layer_weights", weight, 0.0, math.inf)

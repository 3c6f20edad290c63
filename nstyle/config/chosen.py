"""The records that settings choose: by the class that a YAML file of their group names."""

import pkgutil
from dataclasses import fields
from typing import TypeVar, cast

from omegaconf import DictConfig, OmegaConf

from nstyle.config.errors import one_line_errors
from nstyle.config.groups import group_files, group_options
from nstyle.errors import NstyleError, check_choice
from nstyle.files import Json
from nstyle.losses import ContentLoss, Smoothing, StyleLoss
from nstyle.networks import Pooling
from nstyle.records import Record, tried
from nstyle.scores import SCORES, Score
from nstyle.solvers import Solver

K = TypeVar("K", bound=Record)

#: The score that `vgg_score` adds.
VGG_SCORE = "style_gram_vgg16"

#: Kinds of records, each chosen by the setting of its group: a YAML file with its class.
KINDS: tuple[type[Record], ...] = (Solver, Pooling, ContentLoss, StyleLoss, Smoothing)


class Given:
    """Holds a record in settings; as itself, OmegaConf would make settings of its fields."""

    def __init__(self, record: Record) -> None:
        self.record = record


def record(config: DictConfig, kind: type[K]) -> K:
    """Returns the record of a kind that the settings choose, such as their `StyleLoss`.

    Its class is imported only if a YAML file of the group names it, of this package or of the
    user's own folder: what came with a picture, a run or a request names none.

    Raises:
      NstyleError: an option is unknown or out of its range, or the class is not of the kind.
    """
    given = config[kind.group]
    if isinstance(given, Given):
        tried(given.record, kind)
        return cast(K, given.record)
    with one_line_errors():
        chosen = OmegaConf.to_container(given, resolve=True)
    return _made(kind, kind.group, cast(Json, chosen))


def scores(config: DictConfig) -> dict[str, Score]:
    """Returns the scores that a run is to have, by name.

    Raises:
      NstyleError: see `record`.
    """
    if not config.scores:
        return {}
    with one_line_errors():
        chosen = cast(Json, OmegaConf.to_container(config.score, resolve=True))
    found = {name: _made(Score, f"score.{name}", options) for name, options in chosen.items()}
    for own in found.values():
        tried(own, Score)
    return found | ({VGG_SCORE: SCORES[VGG_SCORE]} if config.vgg_score else {})


def _made(kind: type[K], key: str, options: Json) -> K:
    """Returns a record from its `_target_` and options; errors begin with `key`."""
    target = options.pop("_target_", None)
    if target not in _targets(kind.group):
        raise NstyleError(f"{key}: no file of configs/{kind.group} has _target_: {target}")
    try:
        found = pkgutil.resolve_name(str(target))
    except (ImportError, AttributeError, ValueError) as error:
        raise NstyleError(f"{key}: _target_ {target} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise NstyleError(f"{key}: _target_ {target} is not a {kind.__name__}")
    for option in fields(found):
        if option.metadata.get("records") and option.name in options:
            names = options[option.name]
            names = [names] if isinstance(names, str) else names
            if not isinstance(names, list):
                raise NstyleError(f"{key}.{option.name}: {names!r} is no list of names")
            options[option.name] = tuple(_of_name(kind, key, str(name)) for name in names)
    return found.of(options, key)


def _of_name(kind: type[K], key: str, name: str) -> K:
    """Returns the record of the YAML file of a name, as its options stand there."""
    check_choice(key, name, group_options(kind.group))
    return _made(kind, key, dict(group_files(kind.group)[name]))


def _targets(group: str) -> set[str]:
    """Returns the classes that the YAML files of a group name, alone or by the names of several."""
    contents = group_files(group).values()
    named = [own for found in contents for own in (found, *found.values()) if isinstance(own, dict)]
    return {str(own["_target_"]) for own in named if "_target_" in own}

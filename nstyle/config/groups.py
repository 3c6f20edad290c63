"""Config groups: their YAML files, of this package or of a user's own folder."""

import functools
import sys
from pathlib import Path
from typing import cast

import hydra
from omegaconf import OmegaConf

from nstyle.config.errors import one_line_errors
from nstyle.config.schema import Config, NoiseConfig, PyramidConfig
from nstyle.files import Json

#: The rules that Hydra composes by: it asks which before 1.4, and has no others from then on.
VERSION_BASE = {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


def config_dir() -> Path:
    """Returns the folder of YAML files: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def group_options(group: str) -> list[str]:
    """Returns the names that a config group offers: the stems of its YAML files."""
    return sorted({path.stem for path in _paths(group)})


def group_names() -> list[str]:
    """Returns the config groups of this package, without Hydra's own."""
    folders = (path.name for path in config_dir().iterdir() if path.is_dir())
    return sorted(name for name in folders if name != "hydra")


def known_keys() -> list[str]:
    """Returns the names of all settings, with the options of all groups."""
    schemas = {"": Config, "noise.": NoiseConfig, "pyramid.": PyramidConfig}
    keys = [prefix + name for prefix, own in schemas.items() for name in own.__annotations__]
    options = {
        f"{group}.{name}"
        for group in group_names()
        for found in group_files(group).values()
        if "_target_" in found
        for name in found
    }
    return [*keys, *sorted(key for key in options if not key.endswith(("._target_", ".defaults")))]


def use_folder(folder: Path | None) -> None:
    """Adds a folder of the user's own for the rest of the process.

    Its YAML files add to the groups, and its modules are found by their `_target_`.
    """
    _Own.folder = None if folder is None else folder.absolute()
    if _Own.folder is not None and str(_Own.folder) not in sys.path:
        sys.path.insert(0, str(_Own.folder))


def own_folder() -> Path | None:
    """Returns the folder of `use_folder`."""
    return _Own.folder


class _Own:
    """The folder of `use_folder`."""

    folder: Path | None = None


def group_files(group: str) -> dict[str, Json]:
    """Returns the contents of the YAML files of a group, by the name of the option."""
    return {path.stem: _yaml(path, path.stat().st_mtime_ns) for path in _paths(group)}


def _paths(group: str) -> list[Path]:
    """Returns the YAML files of a group, those of the user's own folder last."""
    folders = [config_dir(), *([_Own.folder] if _Own.folder else [])]
    return [path for folder in folders for path in sorted((folder / group).glob("*.yaml"))]


@functools.lru_cache(maxsize=256)
def _yaml(path: Path, changed: int) -> Json:
    with one_line_errors():
        return cast(Json, OmegaConf.to_container(OmegaConf.load(path)))

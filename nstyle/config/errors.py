"""What Hydra and OmegaConf have to say, in one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from nstyle.errors import NstyleError, nearest

#: What Hydra says of `style_weight=3,10` without `-m`, and of a choice that it does not find.
_SEVERAL = re.compile(r"^Ambiguous value for argument '(.*)'")
_OF_GROUP = re.compile(r"Could not (?:find|load) '(hydra/\w+)/([\w-]+)'")

#: Launchers and sweepers of other packages, and the extra that brings them.
_EXTRAS = {
    "joblib": "joblib",
    "ray": "ray",
    "submitit_local": "slurm",
    "submitit_slurm": "slurm",
    "optuna": "optuna",
}


def _choice_line(group: str, name: str, text: str) -> str:
    """Returns the line for a launcher or sweeper that Hydra did not find."""
    if name in _EXTRAS:
        return f"{group}: the package for it is missing; pip install 'nstyle[{_EXTRAS[name]}]'"
    listed = text.partition("Available options in")[2].partition("Config search path")[0]
    allowed = listed.partition(":")[2].split()
    near = nearest(name, allowed)
    return f"{group}: unknown value {name!r}{near} (allowed: {', '.join(allowed)})"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what Hydra and OmegaConf have to say about a wrong value into one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        if found := _SEVERAL.search(str(error)):
            raise NstyleError(
                f"{found[1]}: several values: add -m for a run of each; a list is name=[a,b]"
            ) from error
        if found := _OF_GROUP.search(str(error)):
            raise NstyleError(_choice_line(found[1], found[2], str(error))) from error
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        key = getattr(cause, "full_key", None)
        if key:
            lines = [key, lines[0]]
        raise NstyleError(": ".join(line.rstrip(":") for line in lines[:4])) from error

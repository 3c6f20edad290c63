"""What Hydra and OmegaConf have to say, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from nstyle.errors import NstyleError


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

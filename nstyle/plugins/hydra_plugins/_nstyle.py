"""The sweepers of nstyle under names that Hydra accepts: before 1.4 it takes them from here alone.

Hydra imports a module of this namespace by itself, in every program, unless its name begins with an
underscore. This one loads JAX, so `nstyle.runs.sweepers.register` registers it where it is needed.
"""

from nstyle.runs import sweepers


class StoreSweeper(sweepers.StoreSweeper):
    """See `nstyle.runs.sweepers.StoreSweeper`."""


class CheckedSearch(sweepers.CheckedSearch):
    """See `nstyle.runs.sweepers.CheckedSearch`."""

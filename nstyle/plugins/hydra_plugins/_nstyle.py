"""The sweepers of nstyle under names that Hydra accepts: before 1.4 it takes them from here alone.

Hydra imports a module of this namespace by itself, in every program, unless its name begins with an
underscore. This one loads JAX, so `nstyle.runs.sweep.register` registers it where it is needed.
"""

from nstyle.runs import sweep


class StoreSweeper(sweep.StoreSweeper):
    """See `nstyle.runs.sweep.StoreSweeper`."""


class CheckedSearch(sweep.CheckedSearch):
    """See `nstyle.runs.sweep.CheckedSearch`."""

"""The sweepers of nstyle under names that Hydra accepts: before 1.4 it takes them from here alone.

Hydra imports a module of this namespace by itself, in every program, unless its name begins with an
underscore. This one loads JAX, so `nstyle.sweep.register` registers it where it is needed.
"""

from nstyle import sweep


class StoreSweeper(sweep.StoreSweeper):
    """See `nstyle.sweep.StoreSweeper`."""


class CheckedSearch(sweep.CheckedSearch):
    """See `nstyle.sweep.CheckedSearch`."""

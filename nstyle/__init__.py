"""nstyle: optimisation-based neural style transfer for research, in JAX.

`stylize` makes a picture, `sweep` many, and `load` reads them again. The rooms, from the ground up;
each imports from those above it alone:

    errors, arrays, records   the one exception, names of arrays, what losses and others are made of
    files, process            files and caches; signals, memory and progress of a process
    images                    pictures: files, sizes, colours, sets of pairs
    losses                    content, style, total variation, smoothing
    networks                  architectures, poolings, features, weights
    solvers                   L-BFGS, first order, and the loop with its safeguard, for one or many
    scores                    distances by what is not optimised
    objective                 structure, problem, terms; whole or by tiles; one size after another
    config                    settings: schema, composition, checks
    runs                      from settings to plans and pictures; store, sessions, sweeps
    report, web               the page of a sweep; the page to try it in a browser
    feedforward               networks that paint in one pass
    cli                       the command line
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nstyle.errors import NstyleError as NstyleError
    from nstyle.report.loaded import Runs as Runs
    from nstyle.report.loaded import load as load
    from nstyle.report.loaded import sweep as sweep
    from nstyle.runs.stylized import Stylized as Stylized
    from nstyle.runs.stylized import stylize as stylize

__version__ = version("nstyle")
__all__ = ["NstyleError", "Runs", "Stylized", "__version__", "load", "stylize", "sweep"]

_HOMES = {
    "stylize": "nstyle.runs.stylized",
    "Stylized": "nstyle.runs.stylized",
    "NstyleError": "nstyle.errors",
    "Runs": "nstyle.report.loaded",
    "load": "nstyle.report.loaded",
    "sweep": "nstyle.report.loaded",
}


def __dir__() -> list[str]:
    """Returns what there is, also what is not imported yet."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that `import nstyle` costs little."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nstyle' has no attribute {name!r}")

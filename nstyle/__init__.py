"""nstyle: optimisation-based neural style transfer for research, in JAX.

`stylize` is the short way. The pieces, each a module of pure functions or plain data:

    layers      names, order and geometry of the networks' convolutions
    losses      content, style (Gram) and total-variation losses
    networks    features, preprocessing, mean-activation rescaling
    rescaling   filters rescaled to a mean activation of 1
    weights     pretrained weights: sources, checks, conversion
    scores      distances by what is not optimised
    guidance    regions from label pictures
    objective   the total loss from static structure and traced numbers
    tiles       the total loss and its gradient by tiles, for large pictures
    balance     what a term is divided by, so that weights mean the same for every pair
    solvers     L-BFGS, Adam, gradient descent, and the loop with its safeguard, for one or many
    estimates   how much memory runs take
    transfer    targets, noise, the optimisation of pictures at one size after another
    feedforward a network that paints in one pass (feedforward_tiles: large pictures)
    training    its training step (data: the pictures; train: the command)
    models      trained networks on disk, their export (apply: the command)
    images      reading and writing pictures
    config      settings: schema, composition, checks
    job         from settings to a result
    code        a hash of what the code does, for the identity of runs
    stored      files that are read again, known by their hashes
    runs        the run store: a folder for each run, checkpoints
    session     one run, from its config to its folder
    sweep       sweeps, planned as a whole
    statistics  what the scores of a sweep say of a parameter
    report      the page and the table of a sweep
    serve       a page to try it in a browser (serve_site: the application; serve_jobs: its runs)
    pages       what pages share
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nstyle.errors import NstyleError as NstyleError
    from nstyle.runs.stylized import Stylized as Stylized
    from nstyle.runs.stylized import stylize as stylize

__version__ = version("nstyle")
__all__ = ["NstyleError", "Stylized", "__version__", "stylize"]

_HOMES = {
    "stylize": "nstyle.runs.job",
    "Stylized": "nstyle.runs.job",
    "NstyleError": "nstyle.errors",
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

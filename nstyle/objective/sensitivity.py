"""How what is measured of a finished picture depends on the weight of each style layer.

A picture goes on from where it ended, once with a layer's weight a little larger and once a little
smaller; what the two measure, subtracted, is the slope. What the steps would have changed anyway
falls out of the difference. `experiments/sensitivity.py` compares with whole runs.
"""

from collections import deque
from collections.abc import Callable, Mapping

from nstyle.arrays import Image
from nstyle.objective.stages import transfer
from nstyle.objective.terms import Problem, Structure
from nstyle.solvers import Solver, Stopping

#: By what a weight is multiplied and divided, and for how many steps the picture goes on.
FACTOR, STEPS = 2**0.5, 60


def sensitivity(
    structure: Structure,
    problem: Problem,
    image: Image,
    solver: Solver,
    measure: Callable[[Image], Mapping[str, float]],
    layer: str,
    steps: int = STEPS,
) -> dict[str, float]:
    """Returns how much each measure changes when the weight of a style layer doubles.

    Args:
      structure: static part of the objective.
      problem: with its weights.
      image: the finished picture, in [0, `structure.value_range`].
      solver: goes on from it, with nothing remembered.
      measure: says the measures of a picture in [0, `structure.value_range`].
      layer: the style layer.
      steps: with the changed weight.

    Raises:
      NstyleError: the loss or its gradient is not finite.
    """

    def after(factor: float) -> Mapping[str, float]:
        changed = with_style_weight(problem, layer, factor)
        ran = transfer(structure, changed, image, solver, Stopping(steps))
        return measure(deque(ran, maxlen=1).pop().best_image())

    more, less = after(FACTOR), after(1 / FACTOR)
    return {name: more[name] - less[name] for name in more}


def with_style_weight(problem: Problem, layer: str, factor: float) -> Problem:
    """Returns a problem with the weight of a style layer multiplied."""
    weights = problem.weights
    style = {**weights.style, layer: factor * weights.style[layer]}
    return problem._replace(weights=weights._replace(style=style))

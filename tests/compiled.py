"""Functions of the objective as one program each; operation by operation they are hundreds."""

import functools

import jax

from nstyle import objective
from nstyle.objective import problems

prepare = jax.jit(problems.prepare, static_argnames=("structure", "balanced"))
features_of = jax.jit(objective.features_of, static_argnames=("structure", "layers"))
evaluate = jax.jit(objective.evaluate, static_argnames="structure")


@functools.partial(jax.jit, static_argnames="structure")
def value_and_grad(structure, image, problem):
    """Returns loss and terms, and the gradient."""
    return jax.value_and_grad(problems.objective(structure), has_aux=True)(image, problem)

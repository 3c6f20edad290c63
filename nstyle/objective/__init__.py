"""The objective: static structure, traced problem, every term, whole or by tiles; and its descent.

structure = Structure(style_layers=("conv1_1", "conv2_1"))
problem = prepare(structure, params, weights, content, style)
(loss, terms), gradient = jax.value_and_grad(objective(structure), has_aux=True)(image, problem)
"""

from nstyle.objective.problems import content_target as content_target
from nstyle.objective.problems import equal_weights as equal_weights
from nstyle.objective.problems import objective as objective
from nstyle.objective.problems import prepare as prepare
from nstyle.objective.problems import reference as reference
from nstyle.objective.problems import style_target as style_target
from nstyle.objective.stages import Noise as Noise
from nstyle.objective.stages import Stage as Stage
from nstyle.objective.stages import coarse_to_fine as coarse_to_fine
from nstyle.objective.stages import transfer as transfer
from nstyle.objective.terms import LossWeights as LossWeights
from nstyle.objective.terms import Problem as Problem
from nstyle.objective.terms import References as References
from nstyle.objective.terms import Structure as Structure
from nstyle.objective.terms import Targets as Targets
from nstyle.objective.terms import Terms as Terms
from nstyle.objective.terms import content_targets as content_targets
from nstyle.objective.terms import evaluate as evaluate
from nstyle.objective.terms import features_of as features_of
from nstyle.objective.terms import style_targets as style_targets
from nstyle.objective.terms import weighted_total as weighted_total

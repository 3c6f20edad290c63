"""Minimisation of a picture's loss: L-BFGS, Adam, gradient descent, and any solver of optax.

`minimize` makes one run, `minimize_together` many of one structure; a user's own solver is a
`Solver`, or, from optax, a `FirstOrder`.
"""

from collections.abc import Mapping

from nstyle.solvers.base import Evaluation as Evaluation
from nstyle.solvers.base import Objective as Objective
from nstyle.solvers.base import Outside as Outside
from nstyle.solvers.base import Rules as Rules
from nstyle.solvers.base import Solver as Solver
from nstyle.solvers.compiled import STEP_PROGRAM as STEP_PROGRAM
from nstyle.solvers.driver import State as State
from nstyle.solvers.driver import Step as Step
from nstyle.solvers.driver import alone as alone
from nstyle.solvers.driver import blank_state as blank_state
from nstyle.solvers.driver import minimize as minimize
from nstyle.solvers.driver import minimize_together as minimize_together
from nstyle.solvers.driver import step_of as step_of
from nstyle.solvers.first_order import SGD as SGD
from nstyle.solvers.first_order import Adam as Adam
from nstyle.solvers.first_order import FirstOrder as FirstOrder
from nstyle.solvers.lbfgs import LBFGS as LBFGS
from nstyle.solvers.safeguard import STOPS as STOPS
from nstyle.solvers.safeguard import Stopping as Stopping

#: By the names of the setting `solver`.
SOLVERS: Mapping[str, type[Solver]] = {kind.name: kind for kind in (LBFGS, Adam, SGD)}

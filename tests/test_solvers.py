"""What a solver answers, a user's own solver, and L-BFGS against another library's."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.fft import dctn, idctn

from nstyle.errors import NstyleError
from nstyle.records import number
from nstyle.solvers import LBFGS, SGD, SOLVERS, Adam, FirstOrder, Stopping, lbfgs, minimize
from nstyle.solvers.sobolev import smoothed

SIDE = 32


@dataclass(frozen=True)
class Lion(FirstOrder):
    learning_rate: float = number(0.01, 1e-12)

    def transformation(self):
        return optax.lion(self.learning_rate)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: LBFGS(history_size=0), "solver.history_size: 0 is out of range"),
        (lambda: LBFGS(history_size=2.5), "solver.history_size: 2.5 is not a whole number"),
        (lambda: LBFGS(restart_every=-1), "solver.restart_every: -1 is out of range"),
        (lambda: LBFGS(sobolev=-0.5), "solver.sobolev: -0.5 is out of range"),
        (lambda: Adam(b1=1.0), "solver.b1: 1.0 is out of range"),
        (lambda: SGD(decay_steps=0), "solver.decay_steps: 0 is out of range"),
        (lambda: Lion(learning_rate=0), "solver.learning_rate: 0 is out of range"),
        (lambda: Lion("fast"), "solver.learning_rate: 'fast' is not a number"),
    ],
)
def test_options_out_of_their_range_are_refused(make, line):
    with pytest.raises(NstyleError, match=line):
        make()


def test_what_solvers_say_of_themselves():
    assert list(SOLVERS) == ["lbfgs", "adam", "sgd"]
    assert [kind().is_stochastic for kind in SOLVERS.values()] == [False, True, True]
    assert [kind().restart_every for kind in SOLVERS.values()] == [0, 0, 0]
    assert LBFGS(restart_every=20).restart_every == 20
    assert LBFGS().hint == ""
    assert "learning_rate" in Lion().hint
    shorter = [own.history_size for own in LBFGS(8).ever_smaller()]
    assert shorter == [8, 7, 6, 5]
    assert [own.history_size for own in LBFGS(3).ever_smaller()] == [3]
    assert list(Adam().ever_smaller()) == [Adam()]


def test_memory_is_counted_in_pictures():
    """Those of a step, and those remembered: also of optimisers that are not known here."""
    picture = 64 * 48 * 3 * 4
    remembered = {LBFGS(50): 100, LBFGS(10): 20, Adam(): 3, SGD(): 1, Lion(): 2}
    for solver, count in remembered.items():
        assert solver.memory_bytes((64, 48, 3)) == (count + 8) * picture


def test_a_solver_of_ones_own_is_one_small_class(smooth):
    image, problem, loss = smooth
    steps = list(minimize(loss, image, problem, Lion(), Stopping(40)))
    assert steps[-1].stop == "steps"
    assert steps[-1].best_value < 0.3 * steps[0].value


@pytest.fixture
def smooth(random):
    """A start, the numbers of a convex loss of a picture and its edges, and that loss."""
    target = random.random((SIDE, SIDE, 3))
    kernel = 0.3 * random.normal(size=(3, 3, 3, 8))

    def loss(image, problem):
        target, kernel = problem
        edges = jax.lax.conv_general_dilated(
            (image - target)[None],
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        far = jnp.sum(jnp.linspace(0.02, 1.0, SIDE)[:, None, None] * (image - target) ** 2)
        return far + jnp.sum(jnp.sqrt(1.0 + edges**2) - 1.0), {}

    return jnp.zeros((SIDE, SIDE, 3)), (jnp.float32(target), jnp.float32(kernel)), loss


@pytest.mark.slow
def test_steps_are_those_of_optaxs_lbfgs(smooth, monkeypatch):
    """Two libraries, one algorithm: the losses of thirty unit steps agree.

    The curvature that pairs are given here (`LEAST_CURVATURE`) is switched off, as optax has no
    such thing, and so is the safeguard; the first step is as long as optax's, which is the gradient
    over its norm.
    """
    monkeypatch.setattr(lbfgs, "LEAST_CURVATURE", 0.0)
    image, problem, loss = smooth
    gradient = jax.grad(lambda image: loss(image, problem)[0])(image)
    change = float(jnp.mean(jnp.abs(gradient)) / jnp.linalg.norm(gradient))
    stopping = Stopping(30, rise_limit=math.inf)
    found = minimize(loss, image, problem, LBFGS(6, first_change=change), stopping)
    ours = [step.value for step in found]

    transformation = optax.scale_by_lbfgs(memory_size=6)
    value_and_grad = jax.jit(jax.value_and_grad(lambda image: loss(image, problem)[0]))
    update = jax.jit(transformation.update)
    state, theirs = transformation.init(image), []
    for _ in ours:
        value, gradient = value_and_grad(image)
        theirs.append(float(value))
        direction, state = update(gradient, state, image)
        image = image - direction
    assert ours[-1] < 1e-2 * ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    np.testing.assert_allclose(ours[:15], theirs[:15], rtol=1e-5)


def weighed(image, order):
    """A picture with its frequencies weighed, by SciPy in float64."""
    rows, columns = (np.arange(side) / (2 * side) for side in image.shape[:2])
    square = rows[:, None] ** 2 + columns**2 + 1 / (2 * max(image.shape)) ** 2
    weights = (square ** (-order / 2))[..., None]
    weights /= np.sqrt(np.mean(weights**2))
    return idctn(weights * dctn(image, axes=(0, 1), norm="ortho"), axes=(0, 1), norm="ortho")


@pytest.mark.parametrize("shape", [(6, 9, 3), (7, 5, 3), (1, 4, 3)])
@pytest.mark.parametrize("order", [0.0, 0.5, 2.0])
def test_frequencies_are_weighed_as_by_scipy(shape, order, random):
    image, other = random.random((2, *shape))
    found = smoothed(jnp.asarray(image, jnp.float32), order)
    np.testing.assert_allclose(found, weighed(image, order), atol=1e-5)
    np.testing.assert_allclose(  # symmetric
        np.vdot(other, weighed(image, order)), np.vdot(weighed(other, order), image)
    )
    if order == 0:
        np.testing.assert_allclose(found, image, atol=1e-6)


def test_what_curves_as_its_inner_product_is_minimised_at_once():
    """A bowl whose curvature is f^(2 order) is a round one in the coordinates of that order."""
    order, middle = 1.0, np.random.default_rng(0).random((16, 24, 3))

    def bowl(image, args):
        # The weights' inverse is their inverse at the negative order, up to a factor.
        return 0.5 * jnp.sum(jnp.square(smoothed(image - middle, -order))), {}

    ends = {}
    for sobolev in (0.0, order):
        method = LBFGS(first_change=0.1, sobolev=sobolev)
        *_, end = minimize(bowl, jnp.zeros(middle.shape), None, method, Stopping(8))
        ends[sobolev] = end.best_value
    assert ends[order] < 1e-6 < 1e-2 < ends[0.0]


def test_steps_are_those_of_plain_ones_in_other_coordinates(random):
    """Over z, with pictures smooth(z): where the first step is as long, the losses are the same."""
    order, scales = 0.5, jnp.asarray(random.uniform(0.2, 5.0, (12, 10, 3)), jnp.float32)

    def bowl(image, args):
        return jnp.sum(scales * jnp.square(image - 0.3)), {}

    def in_coordinates(z, args):
        return bowl(smoothed(z, order), args)

    start = jnp.zeros(scales.shape)
    gradient = jax.grad(lambda z: in_coordinates(z, None)[0])(start)
    change = 0.01 * jnp.mean(jnp.abs(gradient)) / jnp.mean(jnp.abs(smoothed(gradient, order)))

    def losses(function, method):
        return [step.value for step in minimize(function, start, None, method, Stopping(12))]

    found = losses(bowl, LBFGS(first_change=0.01, sobolev=order))
    np.testing.assert_allclose(
        found, losses(in_coordinates, LBFGS(first_change=float(change))), rtol=1e-3
    )

"""From coarse to fine: sizes, what is carried over, and that it goes on where it stopped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import prepare

from nstyle import images
from nstyle.config import compose
from nstyle.objective.stages import Detail, Run, Stage, coarse_to_fine, scaled_up
from nstyle.runs.job import build, run
from nstyle.runs.planning import plan
from nstyle.runs.trace import row
from nstyle.solvers import LBFGS, Stopping


@pytest.fixture
def small(pictures):
    return {
        **{name: str(pictures / f"{name}.png") for name in ("content", "style")},
        **{"size": 48, "style_size": 44, "steps": 4},
        **{"style_layers": ["conv1_1", "conv2_1"], "content_layers": ["conv2_2"]},
        **{"pyramid.levels": 3, "pyramid.factor": 2.0, "pyramid.steps": 3},
        **{"pyramid.least": 8, "pyramid.noise": 0.1, "pyramid.detail": 0.0, "tolerance": 0.0},
    }


def test_sizes_shrink_together_from_that_of_the_result(small):
    planned = plan(compose(**small))
    assert [size.shape for size in planned.sizes] == [(9, 12, 3), (18, 24, 3), (36, 48, 3)]
    styles = [((side, side, 3),) for side in (11, 22, 44)]
    assert [size.style_shapes for size in planned.sizes] == styles
    assert [size.steps for size in planned.sizes] == [4, 3, 4]  # 6, were there as many at the end
    assert planned.initial.array.shape == (9, 12, 3)


@pytest.mark.parametrize(
    ("settings", "sides"),
    [
        ({"pyramid.levels": 1}, [48]),
        ({"pyramid.least": 24}, [24, 48]),
        ({"pyramid.factor": 1.5}, [21, 32, 48]),
        ({"content_layers": ["conv5_2"]}, [24, 48]),  # which needs 16 pixels of height
        ({"style_size": 16, "style_layers": ["conv4_1"]}, [24, 48]),  # or of the painting
    ],
)
def test_sizes_too_small_to_be_of_use_are_left_out(small, settings, sides):
    sizes = plan(compose(**(small | settings))).sizes
    assert [max(size.shape) for size in sizes] == sides


def test_every_start_is_of_the_coarsest_size(small, pictures):
    for init in ("content", "style", "noise", "mixture", str(pictures / "content.png")):
        planned = plan(compose(**small, init=init))
        assert planned.initial.array.shape == planned.sizes[0].shape


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "value_range"), [(0.0, 1.0), (0.1, 1.0), (0.1, 255.0)])
def test_each_size_starts_from_the_one_before_scaled_up(small, noise, value_range):
    settings = small | {"pyramid.noise": noise, "value_range": value_range}
    job = build(plan(compose(**settings)))
    steps = list(run(job))
    assert [step.step for step in steps] == list(range(5 + 4 + 5))
    assert [step.is_last for step in steps] == [False] * 13 + [True]
    assert job.steps == steps[-1].step
    assert [row(step, job)["size"] for step in steps] == [12] * 5 + [24] * 4 + [48] * 5
    for end, start, stage in ((4, 5, 1), (8, 9, 2)):
        scaled = jax.image.resize(steps[end].best_image(), job.stages[stage].shape, "cubic")
        added = np.asarray(steps[start].best_image() - scaled)
        assert steps[start].best_step == start
        # of 1,296 or more normal numbers the standard deviation is known to 8 % (four sigmas)
        np.testing.assert_allclose(added.std(), noise * value_range, rtol=0.08, atol=1e-6)
        assert abs(added.mean()) <= 0.12 * noise * value_range


def test_each_seed_and_size_draws_its_own_noise():
    image = jnp.zeros((8, 8, 3))
    drawn = [
        scaled_up(image, (16, 16, 3), Detail(0.0, None, 1.0, jax.random.key(seed)), stage)
        for seed, stage in ((0, 1), (0, 2), (1, 1))
    ]
    assert len({float(image.sum()) for image in drawn}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("init", ["content", "style", "file"])
def test_each_size_has_the_detail_of_the_first_picture(small, pictures, init):
    """A size starts from the first picture there, plus what the size before changed, scaled up."""
    file = pictures / "content.png"
    settings = small | {
        "init": str(file) if init == "file" else init,
        "style_size": "content",
        **{"pyramid.noise": 0.0, "pyramid.detail": 1.0, "value_range": 255.0},
    }
    job = build(plan(compose(**settings)))
    first = images.load(file if init == "file" else small[init], "48x36")
    steps = list(run(job))
    for end, start, width in ((4, 5, 24), (8, 9, 48)):
        coarser, own = (255 * images.resize(first, w, w * 3 // 4) for w in (width // 2, width))
        changed = np.asarray(steps[end].best_image()) - coarser
        expected = own + jax.image.resize(changed, own.shape, "cubic")
        # a file is read at each size, and a byte's rounding apart from one that is read once
        atol = 1.0 if init == "file" else 1e-3
        np.testing.assert_allclose(steps[start].best_image(), expected, atol=atol)


@pytest.mark.slow
def test_what_no_size_changes_is_whole_at_the_end(small):
    """The photograph, which has no content loss, comes through all sizes as it is."""
    settings = small | {"style_weight": 0.0, "tv_weight": 0.0, "pyramid.noise": 0.0}
    photograph = images.load(small["content"], 48)
    for detail, equal in ((1.0, True), (0.0, False)):
        job = build(plan(compose(**settings | {"pyramid.detail": detail})))
        (*_, last) = run(job)
        assert np.allclose(last.best_image(), photograph, atol=1e-5) is equal


@pytest.mark.slow
@pytest.mark.parametrize("init", ["noise", "mixture"])
def test_a_first_picture_with_noise_has_no_detail_to_add(small, init):
    ends = [
        list(run(build(plan(compose(**small | {"init": init, "pyramid.detail": detail})))))[-1]
        for detail in (0.0, 1.0)
    ]
    assert ends[0].value == ends[1].value


@pytest.mark.parametrize("cut", [0, 4, 5, 7, 12])
def test_goes_on_in_any_stage_as_if_it_had_never_stopped(small, cut):
    job = build(plan(compose(**small)))

    def numbers(steps):
        return [(row(step, job), step.best_step, step.is_last) for step in steps]

    kept = []
    for step in run(job):
        kept.append((step, jax.device_get(step.state())))
    rest = run(job, kept[cut][1])
    assert numbers(rest) == numbers(step for step, _ in kept)[cut + 1 :]


@pytest.mark.slow
def test_reaches_the_value_of_the_full_size_in_fewer_full_steps(pictures, vgg16):
    """After as many steps at full size, from noise, the loss is lower than without a coarse one."""
    from nstyle.objective import LossWeights, Structure

    structure = Structure(content_layers=("conv3_2",), style_layers=("conv1_1", "conv3_1"))
    weights = LossWeights({"conv3_2": 1.0}, {"conv1_1": 1e4, "conv3_1": 1e4})
    content, style = (
        images.load(pictures / f"{name}.png", "96x72") for name in ("content", "style")
    )

    def stage(side, steps):
        shape = (side * 3 // 4, side, 3)
        scaled = [jnp.asarray(images.resize(image, *shape[1::-1])) for image in (content, style)]
        problem = prepare(structure, vgg16.params, weights, *scaled)
        return Stage(problem, shape, Stopping(steps))

    def noise(side):
        return jax.random.uniform(jax.random.key(0), (side * 3 // 4, side, 3))

    def end(stages, start):
        for (step,) in coarse_to_fine(structure, [Run(stages, start)], LBFGS()):
            pass
        return step.best_value

    alone = end([stage(96, 30)], noise(96))
    assert end([stage(48, 30), stage(96, 30)], noise(48)) < 0.9 * alone

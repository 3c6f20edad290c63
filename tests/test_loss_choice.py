"""The choice of losses from the command line to the optimised picture, and what is refused."""

import dataclasses
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from compiled import prepare
from conftest import replaced

from nstyle.config import compose, group_options
from nstyle.errors import NstyleError
from nstyle.losses import (
    CONTENT_LOSSES,
    MMD,
    STYLE_LOSSES,
    Contextual,
    CrossLayerGram,
    SlicedWasserstein,
)
from nstyle.objective import LossWeights, Structure, evaluate
from nstyle.objective.problems import draws_afresh, objective
from nstyle.objective.stages import transfer
from nstyle.runs import planning
from nstyle.solvers import LBFGS, Adam, minimize_together

SMALL = ["size=32", "pyramid.levels=1", "steps=4", "scores=false", "style_layers=[conv1_1,conv2_1]"]
SMALL += ["content_layers=[conv2_2]"]
CHOICES = [
    *([f"style_loss={name}"] for name in STYLE_LOSSES),
    ["style_loss=mmd", "style_loss.kernel=gaussian"],
    *([f"content_loss={name}"] for name in CONTENT_LOSSES),
]


def small_problem(vgg16, random, **losses):
    structure = Structure(
        content_layers=("conv2_2",), style_layers=("conv1_1", "conv2_1"), **losses
    )
    weights = LossWeights({"conv2_2": 1.0}, {"conv1_1": 1e4, "conv2_1": 1e4})
    pictures = [jnp.asarray(random.random((24, 24, 3)), jnp.float32) for _ in range(2)]
    return structure, prepare(structure, vgg16.params, weights, *pictures), pictures[0]


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES, ids=" ".join)
def test_every_choice_makes_a_picture_and_a_trace(choice, nstyle_here, given, tmp_path):
    status, _, err = nstyle_here(*given, *SMALL, *choice)
    assert status == 0, err
    (path,) = (tmp_path / "runs").glob("*/trace.csv")
    trace = pd.read_csv(path)
    assert {"content/conv2_2", "style/conv1_1", "style/conv2_1"} <= set(trace.columns)
    assert trace.best_loss.iloc[-1] < trace["loss"][0]


def test_groups_offer_the_losses_and_no_others():
    assert set(group_options("style_loss")) == set(STYLE_LOSSES)
    assert set(group_options("content_loss")) == set(CONTENT_LOSSES)


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_yaml_has_the_options_defaults(name):
    config = compose(style_loss=name)
    assert planning.structure_of(config, "caffe").style_loss == STYLE_LOSSES[name]()


def test_options_reach_the_structure():
    config = compose(
        style_loss="mmd",
        content_loss="contextual",
        **{
            "style_loss.kernel": "gaussian",
            "style_loss.samples": 64,
            "content_loss.bandwidth": 0.5,
        },
    )
    structure = planning.structure_of(config, "caffe")
    assert structure.style_loss == MMD("gaussian", samples=64)
    assert structure.content_loss == Contextual(bandwidth=0.5)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["style_loss=remdd"], "style_loss: unknown value 'remdd'; did you mean 'remd'"),
        (["style_loss=mmd", "style_loss.kernel=rbf"], "style_loss.kernel: unknown value 'rbf'"),
        (["style_loss=nnst", "style_loss.samples=0"], "style_loss.samples: 0 is out of range"),
        (["style_loss=gram", "style_loss.samples=9"], "samples"),
        (["style_loss=remd", "recipe=momo"], "gram_normalization: style_loss=remd does not"),
        (["style_loss=remd", "style_reduction=mean"], "style_reduction: style_loss=remd does"),
        (
            ["style_loss=cross_layer_gram", "style_layers=[conv3_1]"],
            "style_layers: style_loss=cross_layer_gram compares pairs",
        ),
        (["content_loss=contextual", "content_reduction=sum"], "content_reduction: content_loss="),
        (["style_loss=histogram", "tile=64"], "style_loss: histogram compares positions"),
        (["content_loss=cosine", "tile=64"], "content_loss: memory and tile work with euclidean"),
        (["style_loss=nnst", "size=256", "memory=800MiB"], "style_loss: nnst compares positions"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(arguments, line, nstyle_here, given):
    status, _, err = nstyle_here(*replaced([*given, "size=32"], *arguments))
    assert status != 0
    assert line in err and err.count("\n") == 1


@pytest.mark.slow
def test_adam_draws_afresh_and_lbfgs_does_not(vgg16, random):
    """From one picture, without moving: a step's loss changes with the directions alone."""
    structure, problem, start = small_problem(vgg16, random, style_loss=SlicedWasserstein(2))
    still = Adam(learning_rate=1e-12)

    def values():
        return [step.value for step in islice(transfer(structure, problem, start, still), 4)]

    found = values()
    assert len(set(found)) == 4
    assert values() == found
    other = problem._replace(seed=np.uint32(5))
    assert next(transfer(structure, other, start, still)).value != found[0]


def test_only_runs_that_draw_afresh_are_made_alone():
    """A batch has one draw for all its steps."""
    drawing = Structure(style_loss=SlicedWasserstein())
    assert draws_afresh(drawing, Adam())
    assert not draws_afresh(drawing, LBFGS())
    assert not draws_afresh(Structure(), Adam())
    start = jnp.zeros((4, 5, 3))
    together = minimize_together(lambda image, _: image.sum(), [start] * 2, [0, 0], problem_at=id)
    with pytest.raises(NstyleError, match="are made one by one"):
        next(together)


def test_a_resumed_run_draws_the_same(vgg16, random):
    structure, problem, start = small_problem(vgg16, random, style_loss=SlicedWasserstein(2))
    values = [step.value for step in islice(transfer(structure, problem, start, Adam()), 3)]
    state = jax.tree.map(np.array, next(transfer(structure, problem, start, Adam())).state())
    resumed = transfer(structure, problem, start, Adam(), resume=state)
    assert [next(resumed).value for _ in range(2)] == values[1:]


def test_cross_layer_pairs_follow_depth_not_spelling_order(vgg16, random):
    structure, problem, image = small_problem(vgg16, random, style_loss=CrossLayerGram())
    turned = dataclasses.replace(structure, style_layers=structure.style_layers[::-1])
    found = [evaluate(own, 0.5 * image, problem)[1].style for own in (structure, turned)]
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "losses", [{"style_loss": SlicedWasserstein(8)}, {"content_loss": Contextual()}], ids=str
)
def test_batches_are_as_single_runs(losses, vgg16, random):
    structure, problem, start = small_problem(vgg16, random, **losses)
    problems = [problem._replace(seed=np.uint32(seed)) for seed in (1, 2)]
    starts = (0.5 * start, start)
    first = next(minimize_together(objective(structure), starts, problems))
    alone = [next(transfer(structure, *pair)) for pair in zip(problems, starts, strict=True)]
    np.testing.assert_allclose(
        [step.value for step in first], [own.value for own in alone], rtol=1e-5
    )

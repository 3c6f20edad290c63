"""Values of parts against closed forms, brute force over orders, and simulated scores."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nstyle.config.subsets import orders, spelt_out, subsets
from nstyle.errors import NstyleError
from nstyle.report import statistics, values

COLUMNS = ["content", "w_layer_weights", "style_weight", "lpips", "gram"]


def additive(parts):
    """What subsets are worth where each part adds its own amount: float (parts, pairs)."""
    return {own: parts[sorted(own)].sum(axis=0) for own in subsets(len(parts))}


def test_values_of_an_additive_score_are_the_parts(random):
    parts = random.normal(size=(5, 3))
    np.testing.assert_allclose(values.shapley(additive(parts), 5), parts, atol=1e-12)
    found = values.interactions(additive(parts), 5)
    np.testing.assert_allclose(found[~np.eye(5, dtype=bool)], 0, atol=1e-12)
    assert np.isnan(found[np.eye(5, dtype=bool)]).all()


def test_values_equal_the_mean_over_all_orders_and_sum_to_the_whole(random):
    worth = {own: random.normal(size=2) for own in subsets(4)}
    worth[frozenset()] = np.zeros(2)
    expected = np.zeros((4, 2))
    for order in itertools.permutations(range(4)):
        for place, part in enumerate(order):
            before = frozenset(order[:place])
            expected[part] += (worth[before | {part}] - worth[before]) / math.factorial(4)
    found = values.shapley(worth, 4)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=0), worth[frozenset(range(4))], atol=1e-12)


def test_interactions_of_two_that_do_the_same_and_of_two_that_need_each_other():
    """Glove game: parts 0 and 1 are worth 1 as one; 2 and 3 together alone."""
    worth = {
        own: np.array([float(bool(own & {0, 1})) + float({2, 3} <= own)]) for own in subsets(4)
    }
    found = values.interactions(worth, 4)[..., 0]
    np.testing.assert_allclose(found[0, 1], -1)
    np.testing.assert_allclose(found[2, 3], 1)
    np.testing.assert_allclose(found[[0, 0, 1, 1], [2, 3, 2, 3]], 0, atol=1e-12)
    np.testing.assert_allclose(values.shapley(worth, 4)[:, 0], 0.5)


def test_values_along_random_orders_are_unbiased(random):
    """Of many runs of other orders the mean is the exact value, within four standard errors."""
    worth = {own: random.normal(size=1) for own in subsets(5)}
    exact = values.shapley(worth, 5)[:, 0]
    found = []
    for seed in range(400):
        places = np.random.default_rng(seed).permutation(5)  # other parts, other orders
        renamed = {frozenset(places[i] for i in own): value for own, value in worth.items()}
        some = {own: renamed[own] for own in subsets(5, samples=2)}
        assert len(some) < len(worth)
        found.append(values.shapley(some, 5)[places, 0])
    found = np.array(found)
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert np.all(np.abs(found.mean(axis=0) - exact) < 4 * error)


def test_values_along_random_orders_sum_to_the_whole(random):
    worth = {own: random.normal(size=3) for own in subsets(9, samples=6)}
    total = worth[frozenset(range(9))] - worth[frozenset()]
    np.testing.assert_allclose(values.shapley(worth, 9).sum(axis=0), total, atol=1e-12)
    assert values.interactions(worth, 9) is None


def test_intervals_over_pairs_cover_at_the_nominal_rate():
    """1000 simulated experiments of 12 pairs: 95 % within three standard errors of 0.7 %."""
    random, truth = np.random.default_rng(5), np.array([0.3, -0.1, 0.5])
    covered = 0
    for _ in range(1000):
        found = values.shapley(additive(truth[:, None] + random.normal(size=(3, 12))), 3)
        low, high = statistics.interval(found[0])
        covered += low <= truth[0] <= high
    assert abs(covered / 1000 - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 1000)


def test_forward_selection_takes_the_best_step_each_time():
    worth = {own: np.array([float(len(own & {0, 1}) * 2 + len(own))]) for own in subsets(3)}
    worth[frozenset({2})] = np.array([9.0])  # the best alone, not a part of the best two
    worth[frozenset({0, 1})] = np.array([30.0])
    assert values.forward(worth, 3) == [(2, 9.0), (0, 4.0), (1, 7.0)]


def test_worths_are_read_off_the_curves_at_equal_content():
    """By hand: curves of straight lines through the photograph, whose score is 1."""
    rows = []
    for pair, scale in (("a", 1.0), ("b", 2.0)):
        for level, slope in (("[0,0]", 0.0), ("[1,0]", 0.5), ("[0,1]", 1.0), ("[1,1]", 2.0)):
            for weight, kept in ((3, 0.1), (10, 0.2), (30, 0.4)):
                moved = kept * scale * (slope > 0) * (0.2 if level == "[1,0]" else 1.0)
                rows.append((pair, level, weight, moved, 1.0 - slope * moved))
    table = pd.DataFrame(
        rows, columns=["content", "parts_layer_weights", "style_weight", "lpips", "gram"]
    )
    whole = values.whole_of("parts_layer_weights", ["[0,0]", "[1,0]", "[0,1]", "[1,1]"])
    worth, short = values.worths(table, whole, "style_weight", "gram", "lpips", ["content"])
    np.testing.assert_allclose(worth[frozenset({0, 1})], [0.2, 0.4])
    np.testing.assert_allclose(worth[frozenset({1})], [0.1, 0.2])
    np.testing.assert_allclose(worth[frozenset({0})], [0.04, 0.08])  # as far as its curve goes
    assert short == pytest.approx(1 / 3)


def curves(levels, better=1.0, start=0.0):
    """A table of straight curves, the score falling as `lpips` rises, of each level its slope."""
    rows = [
        (pair, level, weight, start + kept, 1.0 - better * slope * kept)
        for pair in ("a", "b")
        for level, slope in levels.items()
        for weight, kept in ((3, 0.1), (10, 0.2), (30, 0.4))
    ]
    return pd.DataFrame(
        rows, columns=["content", "w_layer_weights", "style_weight", "lpips", "gram"]
    )


SLOPES = {"[0,0]": 0.0, "[1,0]": 0.5, "[0,1]": 1.0, "[1,1]": 2.0}


def test_an_unfinished_sweep_has_the_values_that_it_can_have():
    whole = values.whole_of("w_layer_weights", list(SLOPES))
    arguments = whole, "style_weight", "gram", "lpips", ["content"]
    table = curves(SLOPES)
    complete, _ = values.worths(table, *arguments)
    assert set(complete) == set(whole.levels.values())
    assert values.is_known(complete, 2)
    one_missing, _ = values.worths(table[table["w_layer_weights"] != "[1,0]"], *arguments)
    assert frozenset({0}) not in one_missing and frozenset({1}) in one_missing
    for left_out in ("[0,0]", "[1,1]"):
        assert values.worths(table[table["w_layer_weights"] != left_out], *arguments) == ({}, 0.0)
    assert values.worths(table[:0], *arguments) == ({}, 0.0)
    assert not values.is_known({}, 2)


def test_curves_that_begin_beyond_what_is_held_are_counted():
    table = curves(SLOPES)
    table.loc[table["w_layer_weights"] == "[1,0]", "lpips"] += 1.0
    whole = values.whole_of("w_layer_weights", list(SLOPES))
    _, short = values.worths(table, whole, "style_weight", "gram", "lpips", ["content"])
    assert short == pytest.approx(1 / 3)


def test_levels_that_are_subsets():
    levels = spelt_out("subsets(avg,max,3)")[1:-1].split("],[")
    whole = values.whole_of("pooling.pools", [f"[{level}]" for level in levels])
    assert whole.size == 3
    assert whole.levels["[avg,max,max]"] == {1, 2}
    for others in (
        ["avg", "max"],
        ["[1,0]", "[0,1]"],
        ["[0,0]", "[1]"],
        ["[0,0]", "[1,1]", "[2,2]"],
        ["[0]", "[1]"],
    ):
        assert values.whole_of("x_layer_weights", others) is None
    assert values.whole_of("style_blend", ["[1,1]", "[1,2]", "[2,1]", "[2,2]"]) is None


@given(st.integers(1, 7), st.integers(1, 30))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_subsets_along_orders(count, samples):
    found = orders(count, samples)
    assert len(found) == samples
    assert all(sorted(order) == list(range(count)) for order in found)
    assert found[:samples] == orders(count, samples + 3)[:samples]
    assert {frozenset(), frozenset(range(count))} <= set(subsets(count, samples))
    assert len(set(subsets(count))) == 2**count


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("subsets(5)", "write subsets"),
        ("subsets(0,1,13)", "add samples=20"),
        ("subsets(0,1,0)", "one part and one sample or more"),
        ("subsets(1,1,2)", "give two entries"),
        ("subsets(0,1,3,samples=0)", "one sample or more"),
        ("subsets(0,1,3", "write subsets"),
    ],
)
def test_wrong_subsets_are_refused(wrong, line):
    with pytest.raises(NstyleError, match=line):
        spelt_out(wrong)

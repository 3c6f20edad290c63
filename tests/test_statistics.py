"""Statistics against published numbers, brute force and the definitions written out."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats

from nstyle.statistics import compare, holm, interval, paired, pareto_front, summary

#: Hours of sleep gained under two drugs, ten patients (Student 1908, Biometrika 6).
FIRST = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
SECOND = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])


def test_paired_gives_students_numbers():
    found = paired(FIRST, SECOND)
    assert found["n"] == 10
    assert found["difference"] == pytest.approx(1.58)
    assert found["percent"] == pytest.approx(100 * 1.58 / 0.75)
    assert found["p"] == pytest.approx(0.002833, abs=5e-7)  # t = 4.0621 with 9 degrees of freedom
    assert found["cohens_d"] == pytest.approx(4.0621 / math.sqrt(10), abs=1e-4)
    assert found["low"] < 1.58 < found["high"]


def test_interval_is_the_bca_of_its_definition():
    values = SECOND - FIRST
    random = np.random.default_rng(99)
    means = random.choice(values, (200_000, len(values))).mean(axis=1)
    bias = stats.norm.ppf((means < values.mean()).mean())
    without = (values.sum() - values) / (len(values) - 1)
    spread = without.mean() - without
    acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    z = bias + stats.norm.ppf([0.025, 0.975])
    shares = stats.norm.cdf(bias + z / (1 - acceleration * z))
    np.testing.assert_allclose(interval(values), np.quantile(means, shares), atol=0.06)


def test_interval_is_the_same_every_time_and_moves_with_the_values():
    assert interval(FIRST) == interval(FIRST)
    np.testing.assert_allclose(interval(3 * FIRST + 1), 3 * np.array(interval(FIRST)) + 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [([1.0], [2.0]), ([], []), ([0.1, 0.2, 0.7], [0.4, 0.5, 1.0]), ([1.0, 2.0], [1.0, 2.0])],
    ids=["one", "none", "equal differences", "no difference"],
)
def test_what_the_pairs_do_not_decide_is_nan(first, second):
    found = paired(np.array(first), np.array(second))
    assert found["n"] == len(first)
    assert math.isnan(found["p"])
    assert math.isnan(found["cohens_d"])
    if len(first) > 1:
        expected = second[0] - first[0]
        assert (found["low"], found["high"]) == pytest.approx((expected, expected))
    else:
        assert math.isnan(found["low"])
        assert math.isnan(found["high"])


def test_a_baseline_of_zero_has_no_percent():
    assert math.isnan(paired(np.zeros(3), np.array([1.0, 2.0, 4.0]))["percent"])


def design(contents, seeds=2):
    """Three levels of pooling for each content picture and seed, with known scores.

    The effect of max is 0.1 times the number of the picture plus 0.01 times the seed, of l2 twice.
    """
    rows = [
        {
            "pooling": pooling,
            "content": f"{content}.jpg",
            "seed": str(seed),
            "score": 1 + content + factor * (0.1 * content + 0.01 * seed),
        }
        for factor, pooling in enumerate(("avg", "max", "l2"))
        for content in range(contents)
        for seed in range(seeds)
    ]
    table = pd.DataFrame(rows).sample(frac=1, random_state=3)
    table["pooling"] = pd.Categorical(table["pooling"], ["avg", "max", "l2"])
    return table


def test_compare_pairs_runs_that_differ_in_nothing_else():
    table = design(contents=3)
    found = compare(table, "pooling", ["score"], ["content", "seed"])
    assert list(found["level"]) == ["max", "l2"]
    assert set(found["baseline"]) == {"avg"}
    assert set(found["unit"]) == {"run"}
    assert list(found["n"]) == [6, 6]
    effect = np.array([0.1 * content + 0.01 * seed for content in range(3) for seed in range(2)])
    np.testing.assert_allclose(found["difference"], [effect.mean(), 2 * effect.mean()])
    np.testing.assert_allclose(found["baseline_mean"], 2)
    np.testing.assert_allclose(found["level_mean"], [2 + effect.mean(), 2 + 2 * effect.mean()])
    t = effect.mean() / effect.std(ddof=1) * math.sqrt(6)
    np.testing.assert_allclose(found["p"], 2 * stats.t.sf(t, 5))


def test_with_five_pairs_of_pictures_a_pair_is_the_unit():
    found = compare(design(contents=5), "pooling", ["score"], ["content", "seed"])
    effect = np.array([0.1 * content + 0.005 for content in range(5)])
    assert set(found["unit"]) == {"pair"}
    assert list(found["n"]) == [5, 5]
    np.testing.assert_allclose(found["difference"], [effect.mean(), 2 * effect.mean()])
    np.testing.assert_allclose(found["cohens_d"], effect.mean() / effect.std(ddof=1))


def test_content_and_style_make_a_pair_together():
    tables = [design(contents=3).assign(style=style) for style in ("a.jpg", "b.jpg")]
    found = compare(pd.concat(tables), "pooling", ["score"], ["seed", "style", "content"])
    assert set(found["unit"]) == {"pair"}
    assert list(found["n"]) == [6, 6]


def test_incomplete_blocks_do_not_count():
    table = design(contents=2)
    lost = (table["pooling"] == "avg") & (table["content"] == "0.jpg") & (table["seed"] == "1")
    missing = (table["pooling"] == "max") & (table["content"] == "1.jpg")
    table.loc[missing, "score"] = None
    found = compare(table[~lost], "pooling", ["score"], ["content", "seed"]).set_index("level")
    assert found.loc["max", "n"] == 1
    assert found.loc["max", "difference"] == pytest.approx(0)
    assert found.loc["l2", "n"] == 3
    assert found.loc["l2", "difference"] == pytest.approx(2 * (0 + 0.1 + 0.11) / 3)


def test_levels_that_share_no_block_are_left_out():
    table = pd.DataFrame({"weight": ["1", "2"], "seed": ["0", "1"], "score": [1.0, 2.0]})
    assert compare(table, "weight", ["score"], ["seed"]).empty
    found = compare(table, "weight", ["score"], [])
    assert (found["n"].item(), found["difference"].item()) == (1, 1)


def test_runs_of_the_same_block_and_level_count_as_their_mean():
    table = pd.DataFrame(
        {"weight": ["1", "1", "2"], "seed": ["0", "0", "0"], "score": [1.0, 3.0, 5.0]}
    )
    found = compare(table, "weight", ["score"], ["seed"])
    assert (found["n"].item(), found["difference"].item()) == (1, 3)


def test_holm_corrects_what_was_tested():
    corrected = holm(np.array([0.01, np.nan, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(corrected, [0.03, np.nan, 0.06, 0.06, 0.02])
    assert np.isnan(holm(np.array([np.nan]))).all()
    assert holm(np.array([])).shape == (0,)


def test_summary_has_a_row_for_each_level_with_a_score():
    table = design(contents=2)
    table["pooling"] = pd.Categorical(table["pooling"], ["l2", "avg", "max", "none"])
    table.loc[table["pooling"] == "max", "score"] = np.nan
    found = summary(table, "pooling", ["score"])
    assert list(found["level"]) == ["l2", "avg"]
    assert list(found["n"]) == [4, 4]
    values = table.loc[table["pooling"] == "l2", "score"].to_numpy()
    np.testing.assert_allclose(found["mean"].iloc[0], values.mean())
    assert (found["low"].iloc[0], found["high"].iloc[0]) == interval(values)


def dominated(point, others):
    """By the definition: another is no worse in both and better in one."""
    return any(
        all(o <= p for o, p in zip(other, point, strict=True)) and tuple(other) != tuple(point)
        for other in others
    )


coordinates = some.one_of(some.integers(0, 5), some.just(math.nan), some.floats(-1, 1))


@given(some.lists(some.tuples(coordinates, coordinates), max_size=30))
def test_pareto_front_is_what_nothing_dominates(points):
    array = np.array(points, float).reshape(-1, 2)
    known = [point for point in array.tolist() if not np.isnan(point).any()]
    expected = [not np.isnan(p).any() and not dominated(p, known) for p in array.tolist()]
    assert pareto_front(array).tolist() == expected

"""Statistics against published numbers, brute force and the definitions written out."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats

from nstyle.report.statistics import (
    compare,
    curve_gap,
    holm,
    interval,
    mean_curves,
    paired,
    pareto_front,
    shared_means,
    summary,
    trade_off,
)

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


def test_interval_is_students():
    low, high = interval(SECOND - FIRST)
    assert (low, high) == pytest.approx((0.7001, 2.4599), abs=5e-5)  # as R's t.test(sleep) has it


@pytest.mark.parametrize("count", [5, 8, 20])
def test_interval_holds_the_mean_in_95_of_100_cases(count):
    random = np.random.default_rng(count)
    ends = np.array([interval(random.normal(0.3, 2, count)) for _ in range(2000)])
    held = (ends[:, 0] <= 0.3) & (ends[:, 1] >= 0.3)
    assert held.mean() == pytest.approx(0.95, abs=0.015)


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


def test_of_few_pairs_there_are_differences_and_nothing_else():
    found = compare(design(contents=3), "pooling", ["score"], ["content", "seed"])
    assert list(found["level"]) == ["max", "l2"]
    assert set(found["baseline"]) == {"avg"}
    assert list(found["n"]) == [3, 3]  # pairs, however many seeds
    effect = np.array([0.1 * content + 0.005 for content in range(3)])
    np.testing.assert_allclose(found["difference"], [effect.mean(), 2 * effect.mean()])
    np.testing.assert_allclose(found["baseline_mean"], 2.0)
    np.testing.assert_allclose(found["level_mean"], [2 + effect.mean(), 2 + 2 * effect.mean()])
    np.testing.assert_allclose(found["differences"][0], effect)
    assert found["pairs"][0] == [["0.jpg"], ["1.jpg"], ["2.jpg"]]
    assert found[["low", "high", "cohens_d", "p"]].isna().all(axis=None)


def test_from_five_pairs_on_they_are_tested_as_units():
    found = compare(design(contents=5, seeds=4), "pooling", ["score"], ["content", "seed"])
    effect = np.array([0.1 * content + 0.015 for content in range(5)])
    assert list(found["n"]) == [5, 5]
    np.testing.assert_allclose(found["difference"], [effect.mean(), 2 * effect.mean()])
    np.testing.assert_allclose(found["cohens_d"], effect.mean() / effect.std(ddof=1))
    np.testing.assert_allclose(found["p"], stats.ttest_1samp(effect, 0).pvalue)
    assert (found["low"][0], found["high"][0]) == pytest.approx(interval(effect))


def test_any_level_can_be_the_baseline():
    table = design(contents=5)
    found = compare(table, "pooling", ["score"], ["content", "seed"], "max").set_index("level")
    first = compare(table, "pooling", ["score"], ["content", "seed"]).set_index("level")
    assert list(found.index) == ["avg", "l2"]
    assert set(found["baseline"]) == {"max"}
    assert found.loc["avg", "difference"] == pytest.approx(-first.loc["max", "difference"])
    assert found.loc["avg", "p"] == pytest.approx(first.loc["max", "p"])


def test_seeds_of_one_pair_are_no_sample():
    found = compare(design(contents=1, seeds=50), "pooling", ["score"], ["seed"])
    assert list(found["n"]) == [1, 1]
    assert found[["low", "high", "p"]].isna().all(axis=None)


def test_pairs_need_not_be_all_combinations():
    table = design(contents=6)
    table["style"] = table["content"].map(lambda name: f"art-{int(name[0]) // 2}.jpg")
    found = compare(table, "pooling", ["score"], ["content", "style", "seed"])
    assert list(found["n"]) == [6, 6]
    assert found["pairs"][0][2] == ["2.jpg", "art-1.jpg"]


def test_content_and_style_make_a_pair_together():
    tables = [design(contents=3).assign(style=style) for style in ("a.jpg", "b.jpg")]
    found = compare(pd.concat(tables), "pooling", ["score"], ["seed", "style", "content"])
    assert list(found["n"]) == [6, 6]


def test_incomplete_blocks_do_not_count():
    table = design(contents=2)
    lost = (table["pooling"] == "avg") & (table["content"] == "0.jpg") & (table["seed"] == "1")
    missing = (table["pooling"] == "max") & (table["content"] == "1.jpg")
    table.loc[missing, "score"] = None
    found = compare(table[~lost], "pooling", ["score"], ["content", "seed"]).set_index("level")
    assert found.loc["max", "n"] == 1
    assert found.loc["max", "difference"] == pytest.approx(0)
    assert found.loc["l2", "n"] == 2
    assert found.loc["l2", "difference"] == pytest.approx(2 * (0 + 0.105) / 2)


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


def test_a_curve_gap_is_exact():
    line = np.array([[0.0, 1.0], [4.0, 3.0], [1.0, 1.5]])  # in no order
    assert curve_gap(line, line + np.array([0, 0.25])) == pytest.approx(0.25)
    assert curve_gap(line, line[:2] + np.array([1, 0.25])) == pytest.approx(-0.25)  # y of x - 1
    tent = np.array([[0.0, 0.0], [2.0, 2.0], [4.0, 0.0]])
    flat = np.array([[-1.0, 0.0], [3.0, 0.0]])
    assert curve_gap(flat, tent) == pytest.approx((2 + 1.5) / 3)  # from 0 to 3
    assert curve_gap(tent, flat) == pytest.approx(-(2 + 1.5) / 3)
    assert curve_gap(tent, np.array([[1.0, 3.0], [1.0, 5.0]])) == pytest.approx(3)  # one place


def test_curves_without_a_common_range_have_no_gap():
    line = np.array([[0.0, 1.0], [1.0, 2.0]])
    assert math.isnan(curve_gap(line, line + np.array([1.5, 0])))
    assert math.isnan(curve_gap(line, np.array([[math.nan, 1.0]])))


def curves(pairs, offset, noise=0.0, shift=0.0, seed=0):
    """Parallel lines through three weights: `max` by `offset` of each pair above `avg`.

    `max` is also further along its line by `shift` at the same weight.
    """
    random = np.random.default_rng(seed)
    rows = []
    for pair in range(pairs):
        own = offset + noise * random.standard_normal()
        for pooling in ("avg", "max"):
            for weight in (10, 100, 1000):
                style = math.log10(weight) + 0.1 * pair + shift * (pooling == "max")
                rows += [
                    {"pooling": pooling, "weight": str(weight), "content": f"{pair}.jpg"}
                    | {"seed": str(s), "style_gram": style + 0.01 * s}
                    | {"lpips": 5 - 0.5 * style + own * (pooling == "max") + 0.03 * s}
                    for s in range(2)
                ]
    return pd.DataFrame(rows)


def at_equal_style(table, **how):
    return trade_off(
        table, "pooling", "weight", "style_gram", "lpips", ["content", "seed"], **how
    ).iloc[0]


def test_parallel_curves_differ_by_their_offset():
    found = at_equal_style(curves(8, -0.2, shift=0.7))
    assert (found["level"], found["baseline"]) == ("max", "avg")
    assert found["difference"] == pytest.approx(-0.2)
    assert (found["n"], found["better"]) == (8, 8)
    assert (found["low"], found["high"]) == pytest.approx((-0.2, -0.2))
    turned = at_equal_style(curves(8, -0.2, shift=0.7), baseline="max")
    assert turned["difference"] == pytest.approx(0.2)
    assert (turned["level"], turned["better"]) == ("avg", 0)


def test_at_the_same_weight_the_difference_would_be_another():
    table = curves(8, -0.2, shift=0.7)
    plain = compare(table, "pooling", ["lpips"], ["content", "seed", "weight"])
    assert plain["difference"].item() == pytest.approx(-0.2 - 0.35)


def test_pairs_without_a_common_range_do_not_count():
    table = curves(6, -0.2)
    away = (table["content"] == "3.jpg") & (table["pooling"] == "max")
    table.loc[away, "style_gram"] += 50
    found = at_equal_style(table)
    assert found["n"] == 5
    assert ["3.jpg"] not in found["pairs"]
    table.loc[table["pooling"] == "max", "style_gram"] += 50
    assert trade_off(table, "pooling", "weight", "style_gram", "lpips", ["content"]).empty


def test_trade_off_of_few_pairs_is_a_difference_alone():
    found = at_equal_style(curves(4, -0.2, noise=0.1))
    assert found["n"] == 4
    assert np.isnan(found[["low", "high", "p", "p_holm"]].to_numpy(float)).all()


@pytest.mark.slow
def test_trade_off_holds_the_truth_in_95_of_100_cases():
    found = pd.DataFrame(
        [at_equal_style(curves(6, 0.1, noise=0.3, shift=0.2, seed=seed)) for seed in range(200)]
    )
    held = (found["low"] <= 0.1) & (found["high"] >= 0.1)
    assert held.mean() == pytest.approx(0.95, abs=0.035)


def test_other_settings_are_compared_each_with_its_own():
    table = pd.concat(
        [curves(5, offset).assign(tv=tv) for tv, offset in (("0", -0.2), ("1", -0.4))]
    )
    table.loc[table["tv"] == "1", "lpips"] += 3
    blocks = ["content", "seed", "tv"]
    found = trade_off(table, "pooling", "weight", "style_gram", "lpips", blocks)
    assert (found["n"].item(), found["difference"].item()) == (5, pytest.approx(-0.3))


def test_mean_curves_are_of_pairs_that_have_every_point():
    table = curves(6, -0.2, noise=0.05)
    lost = (table["content"] == "5.jpg") & (table["weight"] == "10") & (table["pooling"] == "avg")
    arguments = "pooling", "weight", "style_gram", "lpips", ["content", "seed"]
    found = mean_curves(table[~lost], *arguments)
    assert len(found) == 6
    assert set(found["n"]) == {5}
    point = found[(found["level"] == "max") & (found["weight"] == "100")].iloc[0]
    runs = table[
        (table["pooling"] == "max") & (table["weight"] == "100") & (table["content"] != "5.jpg")
    ]
    assert (point["x"], point["y"]) == pytest.approx(
        (runs["style_gram"].mean(), runs["lpips"].mean())
    )
    assert point["low"] < point["y"] < point["high"]
    assert mean_curves(curves(3, 0.1), *arguments)[["low", "high"]].isna().all(axis=None)


def test_holm_corrects_what_was_tested():
    corrected = holm(np.array([0.01, np.nan, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(corrected, [0.03, np.nan, 0.06, 0.06, 0.02])
    # Equal p, and one beyond 1: R's p.adjust(c(0.4, 0.02, 0.7, 0.02), "holm").
    np.testing.assert_allclose(holm(np.array([0.4, 0.02, 0.7, 0.02])), [0.8, 0.08, 0.8, 0.08])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])
    assert np.isnan(holm(np.array([np.nan]))).all()
    assert holm(np.array([])).shape == (0,)


def test_summary_has_a_row_for_each_level_with_a_score():
    table = design(contents=2)
    table["pooling"] = pd.Categorical(table["pooling"], ["l2", "avg", "max", "none"])
    table.loc[table["pooling"] == "max", "score"] = np.nan
    found = summary(table, "pooling", ["score"])
    assert list(found["level"]) == ["l2", "avg"]
    assert list(found["n"]) == [2, 2]
    assert found[["low", "high"]].isna().all(axis=None)
    values = table.loc[table["pooling"] == "l2", "score"].to_numpy()
    np.testing.assert_allclose(found["mean"].iloc[0], values.mean())


def test_summary_weighs_pairs_alike():
    table = design(contents=5)
    more = pd.concat([table, *[table[table["content"] == "4.jpg"]] * 9])
    found, same = (summary(each, "pooling", ["score"]) for each in (more, table))
    pd.testing.assert_frame_equal(found, same)
    np.testing.assert_allclose(found[["low", "high"]].to_numpy()[0], interval(np.arange(1.0, 6.0)))


def test_shared_means_are_over_the_pairs_that_every_setting_has():
    table = design(contents=3)
    lost = (table["pooling"] == "avg") & (table["content"] == "2.jpg")
    means = shared_means(table[~lost], ["pooling"], ["score"])
    np.testing.assert_allclose(means.loc["avg", "score"], 1.5)
    np.testing.assert_allclose(means.loc["max", "score"], 1.5 + 0.05 + 0.005)
    pooled = table[(table["pooling"] == "avg") == (table["content"] == "0.jpg")]
    assert shared_means(pooled, ["pooling"], ["score"]).empty


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

"""Sweeps from Python: made in a process of their own, and read as a table with pictures."""

import numpy as np
import pandas as pd
import pytest
from report_store import by_pair, make_sweep

import nstyle
from nstyle import images

QUICK = {"size": 32, "steps": 2, "pyramid.levels": 1, "scores": False}


@pytest.mark.slow
def test_a_folder_of_runs_is_a_table(nstyle_here, given, tmp_path):
    settings = [f"{key}={str(value).lower()}" for key, value in QUICK.items()]
    command = ["-m", *given, *settings, "style_weight=3,30", "pooling=avg,[max,max,avg,avg]"]
    assert nstyle_here(*command)[0] == 0
    (folder,) = tmp_path.glob("runs/sweeps/*")
    for place in (folder, str(tmp_path / "runs")):
        runs = nstyle.load(place)
        assert len(runs) == 4
        assert runs.table["style_weight"].dtype == float
        assert sorted(runs.table["style_weight"]) == [3.0, 3.0, 30.0, 30.0]
        assert set(runs.table["pooling.pools"]) == {"[avg]", "[max,max,avg,avg]"}
        assert set(runs.table["pyramid.levels"]) == {1}
        assert set(runs.table["content_file"]) == {"content.png"}
        assert runs.varied == ["pooling.pools", "style_weight"]
    heavy = runs.table[runs.table["style_weight"] == 30].index[0]
    own = runs.table.loc[heavy]
    picture = images.load(f"{own['folder']}/result.png")
    np.testing.assert_array_equal(runs.picture(heavy), picture)
    trace = runs.trace(heavy)
    assert len(trace) == own["steps_done"] + 1
    assert trace["loss"].min() == pytest.approx(own["loss"])
    assert len(repr(runs)) < 200
    shown = runs._repr_html_()
    assert shown.count("data:image/") == 4 and "style_weight" in shown


def test_what_is_no_folder_of_runs_is_refused(tmp_path):
    with pytest.raises(nstyle.NstyleError, match="there is no folder"):
        nstyle.load(tmp_path / "none")
    folder = make_sweep(tmp_path, {"seed": ["0"]}, missing=(0,))
    with pytest.raises(nstyle.NstyleError, match="none of its runs is finished"):
        nstyle.load(folder)


@pytest.mark.slow
def test_a_sweep_from_python_is_that_of_the_command(pictures, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "recipe").mkdir(parents=True)
    text = "# @package _global_\ndefaults: [default]\nrecipe: own\nsteps: 2\n"
    (tmp_path / "mine" / "recipe" / "own.yaml").write_text(text)
    settings = {**QUICK, "content": pictures / "content.png", "style": pictures / "style.png"}
    settings.pop("steps")
    runs = nstyle.sweep({"seed": [0, 1]}, init="noise", recipe="own", config_dir="mine", **settings)
    assert sorted(runs.table["seed"]) == [0, 1]
    assert set(runs.table["steps_done"]) == {2}
    assert "nstyle: 2 runs, 0 of them there already" in capfd.readouterr().err
    again = nstyle.sweep(
        {"seed": [0, 1]}, init="noise", recipe="own", config_dir="mine", **settings
    )
    pd.testing.assert_frame_equal(again.table, runs.table)
    assert "2 of them there already" in capfd.readouterr().err
    with pytest.raises(nstyle.NstyleError, match="did you mean 'avg'"):
        nstyle.sweep({"pooling": ["avgg"]}, **settings)


def test_what_there_is_is_shown():
    assert {"stylize", "sweep", "load", "Runs", "Stylized"} <= set(dir(nstyle))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Eight pairs, two poolings, two weights: see `report_store.by_pair`."""
    pairs = [str(pair) for pair in range(8)]
    parameters = {"pooling": ["avg", "max"], "style_weight": ["10", "100"], "pair": pairs}
    return nstyle.load(make_sweep(tmp_path_factory.mktemp("compared"), parameters, scores=by_pair))


def test_levels_are_compared_by_pair(compared):
    found = compared.compare("pooling")
    assert list(found.index) == ["max"]
    row = found.loc["max"]
    assert row["difference"] == pytest.approx(-0.05, abs=0.02)
    assert row["low"] < row["difference"] < row["high"] < 0
    assert (row["pairs"], row["lower on"]) == (8, 8)
    opposite = compared.compare("pooling", baseline="max").loc["avg"]
    assert opposite["difference"] == pytest.approx(-row["difference"], rel=0.05)
    heavy = compared.keep(compared.table["style_weight"] == "100").compare("pooling")
    means = compared.table[compared.table["style_weight"] == "100"].groupby("pooling")
    gap = means["lpips_content"].mean().diff()["max"]
    assert heavy.loc["max", "difference"] == pytest.approx(gap, rel=1e-6)
    assert "max" in found.to_markdown()
    assert r"\begin{tabular}" in found.to_latex()
    for given, line in (
        ({"by": "poling"}, "did you mean 'pooling'"),
        ({"by": "pooling", "baseline": "l2"}, "baseline: unknown value \"'l2'\""),
        ({"by": "pooling", "x": "style_gramm"}, "did you mean 'style_gram'"),
    ):
        with pytest.raises(nstyle.NstyleError, match=line):
            compared.compare(**given)


def test_sets_of_layers_are_told_by_what_is_left_out(tmp_path):
    sets = ["[conv1_1,conv2_1,conv3_1]", "[conv1_1,conv2_1]", "[conv3_1]"]
    parameters = {"style_layers": sets, "style_weight": ["10", "100"], "pair": ["0"]}
    runs = nstyle.load(make_sweep(tmp_path, parameters, scores=by_pair))
    light = runs.keep(runs.table["style_weight"] == "10")
    titles = [axis.get_title() for axis in light.grid("style_layers").axes]
    assert titles == ["all", "without conv3_1", "conv3_1"]
    baseline = sets[0].strip("[]").split(",")
    found = light.compare("style_layers", baseline=baseline)
    pd.testing.assert_frame_equal(found, light.compare("style_layers", baseline=sets[0]))
    assert list(found.index) == sets[1:]
    with pytest.raises(nstyle.NstyleError, match="no run is left"):
        runs.keep(runs.table["style_weight"] == "1").grid("style_layers")


def test_figures_for_a_paper(compared, tmp_path):
    light = compared.keep(compared.table["style_weight"] == "10")
    grid = light.grid("pooling")
    assert [axis.get_title() for axis in grid.axes[:2]] == ["avg", "max"]
    first = light.table[light.table["pooling"] == "max"].index[0]
    np.testing.assert_allclose(grid.axes[1].images[0].get_array(), light.picture(first))
    assert len(grid.axes) == 16
    with pytest.raises(nstyle.NstyleError, match="several runs have pooling=avg"):
        compared.grid("pooling")
    curves = compared.curves("pooling", "style").axes[0]
    assert len(curves.lines) == 32
    assert [text.get_text() for text in curves.figure.legends[0].get_texts()] == ["avg", "max"]
    trade = compared.trade_off("pooling").axes[0]
    means = compared.table.groupby(["pooling", "style_weight"])[["style_gram", "lpips_content"]]
    np.testing.assert_allclose(trade.lines[0].get_xydata(), means.mean().loc["avg"], rtol=1e-6)
    assert len(trade.collections) == 2  # a band for each
    with pytest.raises(nstyle.NstyleError, match="style_weight, content_weight varies"):
        light.trade_off("pooling")
    for figure, name in ((grid, "a.pdf"), (trade.figure, "b.svg")):
        figure.savefig(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000

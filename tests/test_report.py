"""The report of a made-up store: its table, its errors, and its page in a browser."""

import importlib.util
import json
import math
import re
import sys

import numpy as np
import pandas as pd
import pytest
from report_store import LAYERS, by_pair, make_run, make_sweep, write_result

from nstyle import images, report
from nstyle.report import statistics, sweep_page
from nstyle.runs import store

PARAMETERS = {"pooling": ["avg", "max"], "style_weight": ["1e4", "1e5"], "seed": ["0", "1", "2"]}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep of twelve runs, two of them not finished, with its report."""
    folder = make_sweep(tmp_path_factory.mktemp("store"), PARAMETERS, missing=(3, 7))
    report.write(folder)
    return folder


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs `nstyle-report` in this process: (status, out, err)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["nstyle-report", *map(str, arguments)])
        status = 0
        try:
            report.main()
        except SystemExit as exit_:
            status = exit_.code
        return status, *capsys.readouterr()

    return run


def data_of(page, name="data"):
    """What a page holds for its script."""
    text = page.read_text()
    return json.loads(re.search(rf'id="{name}">(.*?)</script>', text, re.DOTALL)[1])


def test_the_table_has_what_the_runs_folders_say(sweep):
    table = pd.read_csv(sweep / "table.csv")
    assert len(table) == 10
    assert set(PARAMETERS) < set(table)
    for row in table.to_dict("records"):
        folder = sweep.parents[1] / row["folder"].rpartition("/")[2]
        result = json.loads((folder / "result.json").read_text())
        scores = json.loads((folder / "scores.json").read_text())["scores"]
        trace = pd.read_csv(folder / "trace.csv")
        best = trace.loc[trace["loss"].idxmin()]
        assert row["command"] == result["command"]
        assert f"pooling={row['pooling']} " in row["command"]
        assert row["style_gram"] == pytest.approx(scores["style_gram"])
        assert np.isnan(row["colour_histogram"])
        assert row["loss"] == pytest.approx(best["loss"])
        assert row["loss_style"] == pytest.approx(best["style"])
        assert (row["best_step"], row["steps_done"]) == (best["step"], len(trace) - 1)
        for layer in (*LAYERS, "tv/raw"):
            assert row[layer] == pytest.approx(best[layer])
        assert (row["stop"], row["seconds"]) == ("steps", result["seconds"])


def test_parquet_holds_the_same_table(sweep):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table = pd.read_parquet(sweep / "table.parquet")
    assert list(table["style_weight"].cat.categories) == ["10000", "100000"]
    table = table.astype(dict.fromkeys(PARAMETERS, str))
    written = pd.read_csv(sweep / "table.csv", dtype=dict.fromkeys(PARAMETERS, str))
    pd.testing.assert_frame_equal(table, written, check_dtype=False, rtol=1e-12)


def test_without_pyarrow_a_line_says_what_is_left_out(sweep, tmp_path, command, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, out, err = command(sweep, "--out", tmp_path)
    assert status == 0
    assert out.split() == [str(tmp_path / name) for name in ("index.html", "table.csv")]
    assert len(err.splitlines()) == 1
    assert "pyarrow" in err


def test_missing_runs_are_counted_and_not_invented(sweep):
    data = data_of(sweep / "index.html")
    assert len(data["runs"]) == 10
    assert [run["at"] for run in data["missing"]] == [[0, 1, 0], [1, 0, 1]]


def test_an_interrupted_run_is_not_finished(tmp_path):
    folder = make_sweep(tmp_path, {"seed": ["0", "1"]})
    run = tmp_path / "runs" / "photo-art-000000000001"
    write_result(run, store.result(run) | {"stop": "interrupted"})
    assert len(report.read(folder).done) == 1


def test_a_run_without_scores_is_still_reported(tmp_path):
    folder = make_sweep(tmp_path, {"seed": ["0", "1"]})
    (tmp_path / "runs" / "photo-art-000000000001" / "scores.json").unlink()
    report.write(folder)
    assert pd.read_csv(folder / "table.csv")["style_gram"].notna().tolist() == [True, False]


def test_seeds_of_one_pair_give_differences_alone(sweep):
    data = data_of(sweep / "index.html")
    assert {row["parameter"] for row in data["comparisons"]} == {"pooling", "style_weight"}
    (found,) = (
        row
        for row in data["comparisons"]
        if (row["parameter"], row["score"], row["level"]) == ("pooling", "style_gram", "max")
    )
    table = pd.read_csv(sweep / "table.csv").set_index(["style_weight", "seed"])["style_gram"]
    kinds = pd.read_csv(sweep / "table.csv")["pooling"].to_numpy()
    both = pd.concat([table[kinds == "avg"], table[kinds == "max"]], axis=1).dropna().to_numpy()
    assert found["n"] == 1
    assert found["difference"] == pytest.approx((both[:, 1] - both[:, 0]).mean(), rel=1e-4)
    assert {found[name] for name in ("low", "high", "cohens_d", "p", "p_holm")} == {None}
    assert "1 picture pair, 3 seeds." in data["note"]
    assert "not a sample of pictures" in data["note"]
    assert "Holm" not in data["note"]


EIGHT = {
    "pooling": ["avg", "max"],
    "style_weight": ["10", "100", "1000"],
    "pair": [str(pair) for pair in range(8)],
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A sweep of two poolings, three weights and eight pairs, with its report."""
    folder = make_sweep(tmp_path_factory.mktemp("pairs"), EIGHT, scores=by_pair, left=True)
    report.write(folder)
    return folder


def test_all_combinations_of_pictures_stay_two_parameters(tmp_path):
    parameters = {"content": ["a.jpg", "b.jpg"], "style": ["x.jpg", "y.jpg"]}
    folder = make_sweep(tmp_path, parameters, missing=(3,))
    report.write(folder)
    data = data_of(folder / "index.html")
    assert [parameter["name"] for parameter in data["parameters"]] == ["content", "style"]


def test_pairs_are_tested_and_corrected_over_the_page(pairs):
    data = data_of(pairs / "index.html")
    rows = data["comparisons"]
    assert {row["n"] for row in rows} == {8}
    assert {len(row["differences"]) for row in rows} == {8}
    raw = np.array([row["p"] for row in rows], float)
    corrected = np.array([row["p_holm"] for row in rows], float)
    assert ((corrected >= raw) & (corrected <= 1)).all()
    assert "8 picture pairs" in data["note"]


def test_fronts_of_several_pairs_are_of_settings(pairs):
    data = data_of(pairs / "index.html")
    assert len(data["settings"]) == 6
    x, y = (
        [measure["name"] for measure in data["measures"]].index(name)
        for name in ("lpips_content", "style_gram")
    )
    table = pd.read_csv(pairs / "table.csv")
    means = table.groupby(["pooling", "style_weight"])[["lpips_content", "style_gram"]].mean()
    found = [[row["values"][x], row["values"][y]] for row in data["settings"]]
    np.testing.assert_allclose(found, means.to_numpy(), rtol=1e-4)
    front = statistics.pareto_front(means.to_numpy())
    assert data["fronts"]["lpips_content style_gram"] == np.flatnonzero(front).tolist()


def test_what_is_left_is_in_the_table_where_the_runs_have_it(pairs, sweep, tmp_path):
    table = pd.read_csv(pairs / "table.csv")
    folder = pairs.parents[1] / table["folder"][5].rpartition("/")[2]
    best = json.loads((folder / "result.json").read_text())["best"]
    for name in ("content_left", "style_left"):
        assert table[name][5] == pytest.approx(best[name])
        assert name not in pd.read_csv(sweep / "table.csv")
    mixed = make_sweep(tmp_path, {"seed": ["0", "1"]}, left=True)
    run = tmp_path / "runs" / "photo-art-000000000001"
    result = store.result(run)
    del result["best"]["content_left"], result["weights"]
    write_result(run, result)
    report.write(mixed)
    assert pd.read_csv(mixed / "table.csv")["content_left"].notna().tolist() == [True, False]


def test_shares_of_the_loss_are_means_over_pairs(pairs, sweep):
    shares = data_of(pairs / "index.html")["shares"]
    assert [setting["at"][:2] for setting in shares] == [
        [0, 0],
        [0, 1],
        [0, 2],
        [1, 0],
        [1, 1],
        [1, 2],
    ]
    paths = sorted(pairs.parents[1].glob("*/result.json"))[:8]  # of the first setting
    results = [json.loads(path.read_text()) for path in paths]
    traces = [pd.read_csv(path.with_name("trace.csv")) for path in paths]
    for when, rows in (
        ("end", [r["best"] for r in results]),
        ("start", [t.iloc[0] for t in traces]),
    ):
        expected = {
            "content/conv4_2": np.mean([row["content/conv4_2"] / row["loss"] for row in rows]),
            "style/conv1_1": np.mean([5e4 * row["style/conv1_1"] / row["loss"] for row in rows]),
            "style/conv3_1": np.mean([5e4 * row["style/conv3_1"] / row["loss"] for row in rows]),
            "tv": 0,
        }
        assert shares[0][when] == pytest.approx(expected, rel=1e-3)
        assert sum(shares[0][when].values()) == pytest.approx(1, abs=1e-3)
    (alone,) = {*sweep_page._shares_of({"loss": 2.0, "style": 2.0, "style/conv1_1": 1e-3}, None)}
    assert alone == "style"  # a run without a photograph
    old = data_of(sweep / "index.html")["shares"]  # without weights
    assert set(old[0]["end"]) == {"content", "style", "tv"}
    assert sum(old[0]["end"].values()) == pytest.approx(1, abs=1e-3)


def test_copies_by_seed_count_once(tmp_path):
    def without_noise(settings, random):
        return {"style_gram": 0.5 + 0.1 * (settings["pooling"] == "max")}

    folder = make_sweep(tmp_path, PARAMETERS, scores=without_noise)
    report.write(folder)
    data = data_of(folder / "index.html")
    (found,) = (row for row in data["comparisons"] if row["level"] == "max")
    assert (found["n"], found["difference"]) == (1, pytest.approx(0.1))
    assert "The seed changes nothing" in data["note"]


def test_fronts_mind_that_more_similarity_is_better(sweep):
    table = pd.read_csv(sweep / "table.csv")
    fronts = data_of(sweep / "index.html")["fronts"]
    for first, second, signs in (
        ("lpips_content", "style_gram", (1, 1)),
        ("ssim_content", "style_gram", (-1, 1)),
    ):
        points = table[[first, second]].to_numpy() * signs
        front = [
            index
            for index, point in enumerate(points)
            if not any((other <= point).all() and (other < point).any() for other in points)
        ]
        assert fronts[f"{first} {second}"] == front


def test_traces_keep_first_and_last_and_at_most_a_hundred(sweep):
    traces = data_of(sweep / "index.html", "traces")
    assert len(traces) == 10
    for trace in traces:
        assert (trace["step"][0], trace["step"][-1]) == (0, 150)
        assert len(trace["step"]) <= 100
        assert set(LAYERS) | {"loss", "content", "style", "tv", "tv/raw"} == set(trace) - {"step"}
    written = pd.read_csv(sweep.parents[1] / "photo-art-000000000000" / "trace.csv")
    kept = written.set_index("step").loc[traces[0]["step"], "loss"]
    np.testing.assert_allclose(traces[0]["loss"], kept, rtol=1e-4)


def test_a_plain_folder_of_runs_varies_in_what_its_configs_vary_in(tmp_path, command):
    for index, (name, rate) in enumerate([("adam", 0.1), ("adam", 0.02), ("lbfgs", None)]):
        solver = {"name": name} | ({"learning_rate": rate} if rate else {})
        settings = {"solver": solver, "style_layers": ["conv1_1"]}
        make_run(tmp_path / f"run-{index}", settings, "nstyle", seed=index)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.yaml").write_text("seed: 0\n")
    status, *_ = command(tmp_path)
    assert status == 0
    found = report.read(tmp_path)
    assert found.parameters == {
        "solver.name": ["adam", "lbfgs"],
        "solver.learning_rate": ["0.02", "0.1", "unset"],
    }
    assert (len(found.done), len(found.members)) == (3, 4)
    assert len(pd.read_csv(tmp_path / "table.csv")) == 3


ODD = ['</script><script>alert("x")</script>', 'a & b\'s <b>"{{data}}" \\ é 漢\u2028.jpg']


def test_odd_characters_stay_text(tmp_path):
    folder = make_sweep(tmp_path, {"recipe": ODD, "seed": ["0", "1"]}, name="a <i>&'\"b")
    report.write(folder)
    text = (folder / "index.html").read_text()
    assert "<script>alert" not in text
    assert "<title>a &lt;i&gt;&amp;&#x27;&quot;b · nstyle</title>" in text
    data = data_of(folder / "index.html")
    assert data["parameters"][0]["levels"] == ODD
    assert set(pd.read_csv(folder / "table.csv")["recipe"]) == set(ODD)
    assert (data["name"], data["command"].count("alert")) == ("a <i>&'\"b", 1)


def test_files_are_shown_by_name_where_that_tells_them_apart(tmp_path):
    same = ["/a/art.jpg", "/b/art.jpg"]
    folder = make_sweep(tmp_path, {"content": ["/a/x.jpg", "/a/y.jpg"], "style": same})
    report.write(folder)
    content, style = data_of(folder / "index.html")["parameters"]
    assert content["labels"] == ["x.jpg", "y.jpg"]
    assert style["labels"] == same


def test_long_numbers_are_shown_short_where_that_tells_them_apart(tmp_path):
    weights, rates = ["1e4", "31622.7766"], ["0.12345678", "0.12345679"]
    folder = make_sweep(tmp_path, {"style_weight": weights, "tv_weight": rates})
    report.write(folder)
    shown = [parameter["labels"] for parameter in data_of(folder / "index.html")["parameters"]]
    assert shown == [["10000", "31620"], rates]


def test_numbers_are_sorted_and_have_one_form(tmp_path):
    weights = ["1e+06", "30", "1000000", "1e1", "100", "1e-05", "10000.0"]
    parameters = {"style_weight": weights, "tv_weight": ["null", "0.5", ".25"]}
    folder = make_sweep(tmp_path, parameters | {"content": ["1e1", "010"]})
    report.write(folder)
    found = report.read(folder).parameters
    assert found["style_weight"] == ["1e-05", "10", "30", "100", "10000", "1000000"]
    assert found["tv_weight"] == ["0.25", "0.5", "null"]
    assert found["content"] == ["1e1", "010"]
    assert len(pd.read_csv(folder / "table.csv")["style_weight"].unique()) == 6


def test_long_whole_numbers_stay_exact(tmp_path):
    seeds = ["12345678901234567891", "12345678901234567892"]
    assert report.read(make_sweep(tmp_path, {"seed": seeds})).parameters["seed"] == seeds


def test_links_lead_from_the_page_to_the_runs(sweep, tmp_path, command):
    command(sweep, "--out", tmp_path / "elsewhere")
    for page in (sweep / "index.html", tmp_path / "elsewhere" / "index.html"):
        for run in data_of(page)["runs"]:
            assert (page.parent / run["link"] / "result.json").is_file()


def test_data_uri_scales_down_and_never_up(random):
    picture = random.random((60, 90, 3)).astype(np.float32)
    import base64
    import io

    from PIL import Image

    for longest, size in ((45, (45, 30)), (512, (90, 60))):
        head, _, content = images.data_uri(picture, longest).partition(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as found:
            assert (found.size, found.format) == (size, "JPEG")
    flat = np.full((40, 40, 3), [0.2, 0.5, 0.8], np.float32)
    content = images.data_uri(flat, 20).partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(content))) as found:
        np.testing.assert_allclose(images.to_float(found), flat[:20, :20], atol=0.02)


def damaged(folder):
    (folder / "sweep.json").write_text("{")
    return folder


def emptied(folder):
    for path in folder.parents[1].glob("*/result.json"):
        path.unlink()
    return folder


BAD = {
    "no folder": (lambda folder: folder.parent / "nothing-like-it", "nothing-like-it"),
    "misspelt": (lambda folder: folder.with_name("poling"), "did you mean"),
    "a file": (lambda folder: folder / "sweep.json", "sweep.json"),
    "no runs": (lambda folder: folder.parent, "neither a sweep.json nor runs"),
    "nothing finished": (emptied, "none of the 2 runs"),
    "damaged sweep": (damaged, "sweep.json is damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line_and_status_2(tmp_path, command, name):
    prepare, words = BAD[name]
    given = prepare(make_sweep(tmp_path, {"seed": ["0", "1"]}))
    status, out, err = command(given)
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert words in err
    assert not list(tmp_path.rglob("index.html"))


def test_wrong_arguments_are_one_line(command, tmp_path):
    for arguments in ([], ["a", "b"], ["a", "--frobnicate"]):
        status, out, err = command(*arguments)
        assert (status, out, len(err.splitlines())) == (2, "", 1)
    folder = make_sweep(tmp_path, {"seed": ["0", "1"]})
    (tmp_path / "file").touch()
    status, _, err = command(folder, "--out", tmp_path / "file" / "below")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "file" in err


def texts(locator):
    return [text.strip() for text in locator.all_inner_texts()]


def test_two_pictures_go_into_the_comparer(sweep, open_page):
    page = open_page(sweep / "index.html")
    shots = page.locator("button.shot")
    assert shots.count() == 3  # two by two at seed 0, of which one is not finished
    shots.nth(0).click()
    assert shots.nth(0).get_attribute("aria-pressed") == "true"
    shots.nth(2).focus()
    page.keyboard.press("Enter")
    facts = page.locator("#comparer .facts")
    assert texts(facts.locator("tr", has_text="pooling").locator("td")) == ["avg", "max"]
    commands = texts(page.locator("#comparer code"))
    assert commands == [
        "nstyle pooling=avg style_weight=1e4 seed=0",
        "nstyle pooling=max style_weight=1e5 seed=0",
    ]
    stage = page.locator(".stage")
    assert stage.locator("img").count() == 2
    assert all(
        image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
        for image in stage.locator("img").all()
    )

    slider = page.locator("input[type=range]")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "55"
    assert slider.get_attribute("aria-valuetext") == "A 55 %, B 45 %"
    assert stage.locator("img.over").evaluate("i => getComputedStyle(i).clipPath") == (
        "inset(0px 45% 0px 0px)"
    )
    shots.nth(0).click()
    assert stage.locator("input").count() == 0
    page.get_by_role("button", name="Clear").click()
    assert stage.count() == 0


def test_a_command_is_copied(sweep, browser, open_page):
    page = open_page(sweep / "index.html")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the sweep's command").click()
    page.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == json.loads((sweep / "sweep.json").read_text())["command"]


def test_axes_and_filters_change_the_grid(sweep, open_page):
    page = open_page(sweep / "index.html")
    headings = page.locator("#grid th[scope=col]")
    assert texts(headings) == ["avg", "max"]
    page.get_by_label("columns", exact=True).select_option(label="seed")
    assert texts(headings) == ["0", "1", "2"]
    assert texts(page.locator("#grid th[scope=row]")) == ["10000", "100000"]
    page.locator("#axes").get_by_label("pooling", exact=True).select_option(label="all")
    assert page.locator("button.shot").count() == 10
    assert page.get_by_text("not finished", exact=True).count() == 2
    page.get_by_label("rows", exact=True).select_option(label="nothing")
    page.locator("#axes").get_by_label("style_weight", exact=True).select_option(label="100000")
    assert page.locator("button.shot").count() == 5


def test_the_score_below_a_picture_is_the_chosen_one(sweep, open_page):
    page = open_page(sweep / "index.html")
    table = pd.read_csv(sweep / "table.csv")
    first = page.locator("button.shot .score").first
    assert float(first.inner_text()) == pytest.approx(table["style_gram"][0], rel=1e-3)
    page.get_by_label("score below", exact=True).select_option(label="SSIM to content ↑")
    assert float(first.inner_text()) == pytest.approx(table["ssim_content"][0], rel=1e-3)


def test_the_table_sorts_by_its_headings(sweep, open_page):
    page = open_page(sweep / "index.html")
    heading = page.locator("#table th", has_text="Gram distance")
    column = heading.evaluate("heading => heading.cellIndex")
    for direction, sign in (("ascending", 1), ("descending", -1)):
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == direction
        values = [float(text) for text in texts(page.locator(f"#table td:nth-child({column + 1})"))]
        assert len(values) == 10
        assert values == sorted(values, key=lambda value: sign * value)


def test_the_pareto_front_and_its_points(sweep, open_page):
    page = open_page(sweep / "index.html")
    scatter = page.locator("#scatter")
    scatter.scroll_into_view_if_needed()
    page.locator("#scatter .dot").first.wait_for()
    fronts = data_of(sweep / "index.html")["fronts"]
    assert page.locator("#scatter .dot").count() == 10
    assert page.locator("#scatter .ring").count() == len(fronts["lpips_content style_gram"])
    page.get_by_label("across", exact=True).select_option(label="SSIM to content ↑")
    assert page.locator("#scatter .ring").count() == len(fronts["ssim_content style_gram"])

    scatter.locator("svg").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    tip = page.locator("#scatter .tip")
    by_similarity = pd.read_csv(sweep / "table.csv").sort_values("ssim_content")
    row = by_similarity.iloc[1]
    assert tip.inner_text().startswith(f"pooling={row['pooling']}, style_weight=10")
    page.keyboard.press("Enter")
    assert page.locator("#comparer code").inner_text() == row["command"]
    dot = page.locator("#scatter .dot").nth(int(by_similarity.index[-1]))
    dot.click()
    assert texts(page.locator("#comparer code")) == [
        row["command"],
        by_similarity.iloc[-1]["command"],
    ]
    chosen = page.locator("#scatter [role=option][aria-selected=true]")
    assert chosen.count() == 2


def test_curves_follow_the_term_and_the_runs(sweep, open_page):
    page = open_page(sweep / "index.html")
    page.locator("#curves").scroll_into_view_if_needed()
    lines = page.locator("#curves .mark")
    lines.first.wait_for()
    assert lines.count() == 3
    page.get_by_label("runs", exact=True).select_option(label="all")
    assert lines.count() == 10
    before = lines.first.get_attribute("d")
    page.get_by_label("term", exact=True).select_option("style/conv1_1")
    assert lines.first.get_attribute("d") != before
    page.get_by_label("term", exact=True).select_option("tv")
    assert lines.count() == 0
    assert "tv is zero" in page.locator("#curves").inner_text()


def test_numbers_and_axes_are_right(sweep, open_page):
    page = open_page(sweep / "index.html")
    ticks = page.evaluate(
        "[ticks(1e-7, 50, true, 5), ticks(3, 70, true, 6), ticks(0, 150, false, 6)]"
    )
    assert ticks[0] == pytest.approx([1e-7, 1e-5, 1e-3, 1e-1, 1e1])
    assert ticks[1] == [5, 10, 20, 50]
    assert ticks[2] == [0, 50, 100, 150]
    assert page.evaluate("tickNames([1e4, 1e5])") == ["10⁴", "10⁵"]
    assert page.evaluate("tickNames([-0.2, 0, 0.2])") == ["\u22120.2", "0", "0.2"]
    shown = page.evaluate("[0.5, 12345, 3e-7, -0.012345, 150, null].map(value => format(value))")
    assert shown == ["0.5000", "12345", "3·10⁻⁷", "\u22120.01235", "150", "\u2013"]
    at = page.evaluate("[1, 10, 100, 1000].map(scale([1, 1000], true, 0, 300, 5, true).map)")
    assert at == pytest.approx([0, 100, 200, 300])


def test_statistics_show_the_chosen_parameter(sweep, open_page):
    page = open_page(sweep / "index.html")
    comparisons = page.get_by_role("region", name="Comparisons of pooling")
    data = data_of(sweep / "index.html")
    assert comparisons.locator("tbody tr").count() == sum(
        (row["parameter"], row["baseline"], row["x"]) == ("pooling", "avg", "")
        for row in data["comparisons"]
    )
    page.get_by_label("parameter", exact=True).select_option(label="seed")
    assert "not compared itself" in page.locator("#comparisons").inner_text()


def test_trade_offs_are_shown_with_their_curves(pairs, open_page):
    page = open_page(pairs / "index.html")
    rows = [
        row
        for row in data_of(pairs / "index.html")["comparisons"]
        if (row["x"], row["baseline"]) == ("style_gram", "avg")
    ]
    assert [(row["level"], row["n"], row["better"]) for row in rows] == [("max", 8, 8)]
    assert rows[0]["difference"] == pytest.approx(-0.05, abs=0.02)
    assert rows[0]["low"] < rows[0]["difference"] < rows[0]["high"] < 0
    box = page.locator("#trade-off")
    assert box.locator(".mean-curve").count() == box.locator(".band").count() == 2
    assert box.locator("path.dot").count() == 6
    sentence = box.locator(".verdicts").inner_text()
    assert sentence.startswith("max against avg, 8 pairs: at equal Gram distance to style")
    assert "lower [0.0" in sentence
    assert "closer on 8 of 8 pairs" in sentence
    page.get_by_label("score held equal").select_option(label="Fréchet distance to style ↓")
    assert "at equal Fréchet distance" in box.locator(".verdicts").inner_text()
    page.get_by_label("parameter", exact=True).select_option(label="style_weight")
    assert box.inner_text() == ""


def test_a_score_along_a_number_with_its_pictures(pairs, open_page):
    page = open_page(pairs / "index.html")
    page.locator("#charts").scroll_into_view_if_needed()
    chart = page.locator("#along-chart")
    chart.locator(".mean").first.wait_for()
    assert texts(page.get_by_label("number", exact=True).locator("option")) == ["style_weight"]
    assert chart.locator("path.mark").count() == 2  # a line for each pooling
    assert chart.locator(".mean").count() == 6
    assert chart.locator(".dot").count() == 48
    assert texts(page.locator("#along-legend li")) == ["pooling=avg", "pooling=max"]
    heights = chart.locator("path.mark").first.evaluate(
        "path => [0, 0.5, 1].map(t => path.getPointAtLength(t * path.getTotalLength()).y)"
    )
    assert heights == sorted(heights)  # the distance falls with the weight, so the line goes down
    strip = page.locator("#along-strip .shot")
    assert [text.split()[0] for text in texts(strip)] == [
        "style_weight=10",
        "style_weight=100",
        "style_weight=1000",
    ]
    page.locator("#grid .shot").nth(1).click()
    chosen = page.locator("#grid .shot").nth(1).get_attribute("data-run")
    assert page.locator(f"#along-strip [data-run='{chosen}']").count() == 1
    page.get_by_label("its score").select_option(label="LPIPS to content ↓")
    heights = chart.locator("path.mark").first.evaluate(
        "path => [0, 0.5, 1].map(t => path.getPointAtLength(t * path.getTotalLength()).y)"
    )
    assert heights == sorted(heights, reverse=True)


def test_a_sweep_of_no_numbers_has_nothing_along_them(sweep, open_page):
    page = open_page(sweep / "index.html")
    page.locator("#charts").scroll_into_view_if_needed()
    page.locator("#scatter .dot").first.wait_for()
    assert page.locator("#along").is_hidden()


def test_the_baseline_is_chosen_on_the_page(pairs, open_page):
    page = open_page(pairs / "index.html")
    page.get_by_label("parameter", exact=True).select_option(label="style_weight")
    sentences = page.locator("#comparisons .verdicts li")
    assert [text.split(",")[0] for text in texts(sentences)] == [
        "100 against 10",
        "1000 against 10",
    ]
    page.get_by_label("compared with").select_option(label="100")
    assert page.get_by_label("compared with").evaluate("e => e === document.activeElement")
    first, second = texts(sentences)
    assert first.startswith("10 against 100, 8 pairs: LPIPS to content 0.2")
    assert "lower [" in first
    assert "Gram distance to style 0.2" in first
    assert "closer on 8 of 8 pairs; Gram" in first
    assert first.endswith("closer on 0 of 8 pairs.")
    assert second.startswith("1000 against 100")
    strips = page.locator("#comparisons .forest")
    assert strips.first.locator(".pair").count() == 8
    assert (
        strips.first.locator(".pair title")
        .first.text_content()
        .startswith("photo-0.png with art-0.png: \u2212")
    )


def test_photograph_and_painting_stand_beside_the_results(pairs, sweep, open_page):
    data = data_of(pairs / "index.html")
    assert len(data["sources"]) == 16
    assert {(source["width"], source["height"]) for source in data["sources"]} == {
        (40, 30),
        (30, 40),
    }
    page = open_page(pairs / "index.html")
    heads = page.locator("#grid th[scope=row]")
    assert texts(heads)[0].startswith("photo-0.png with art-0.png")
    assert heads.count() == 8
    assert page.locator("button.shot").count() == 16  # both poolings at the first weight
    assert heads.first.locator("img").evaluate_all("all => all.map(each => each.alt)") == [
        "The photograph, photo-0.png",
        "The painting, art-0.png",
    ]
    page.get_by_label("rows", exact=True).select_option(label="style_weight")
    assert page.locator("#grid .source").count() == 0
    assert page.locator("#sources .source").count() == 2
    page.locator("#axes").get_by_label("pair", exact=True).select_option(label="all")
    assert page.locator("#pictures .source").count() == 0  # eight pairs in each place
    page.locator("button.shot").first.click()
    assert texts(page.locator("#comparer figcaption")) == ["photograph", "painting"]
    assert data_of(sweep / "index.html")["sources"] == [None, None]  # the files are not there
    page = open_page(sweep / "index.html")
    page.locator("button.shot").first.click()
    assert page.locator(".source").count() == 0


def test_a_wide_grid_shows_that_it_goes_on(tmp_path, open_page):
    weights = [str(10**power) for power in range(12)]
    folder = make_sweep(tmp_path, {"style_weight": weights, "pooling": ["avg", "max"]})
    report.write(folder)
    page = open_page(folder / "index.html", viewport={"width": 1200, "height": 800})
    grid = page.locator("#grid.more")
    grid.wait_for()
    page.locator("#grid").evaluate("grid => { grid.scrollLeft = grid.scrollWidth; }")
    grid.wait_for(state="detached")
    head = page.locator("#grid th[scope=row]").first
    left = page.locator("#grid").bounding_box()["x"]
    assert head.bounding_box()["x"] == pytest.approx(left, abs=1)
    lines = page.locator("#grid th[scope=col]").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect().height)"
    )
    assert len(set(lines)) == 1


def test_compare_takes_no_room_before_there_is_anything_in_it(sweep, open_page):
    page = open_page(sweep / "index.html", viewport={"width": 1400, "height": 900})
    pictures, compare = page.locator("#pictures"), page.locator("#compare")
    assert compare.bounding_box()["x"] == pictures.bounding_box()["x"]
    page.locator("button.shot").first.click()
    assert compare.bounding_box()["x"] > pictures.bounding_box()["x"] + 600


def test_curves_of_different_levels_have_different_colours(sweep, open_page):
    page = open_page(sweep / "index.html")
    page.locator("#curves").scroll_into_view_if_needed()
    page.locator("#curves .mark").first.wait_for()
    page.get_by_label("colour by").select_option(label="style_weight")
    colours = page.locator("#curves .mark").evaluate_all(
        "all => all.map(e => getComputedStyle(e).stroke)"
    )
    assert len(set(colours)) == 2


def test_poolings_of_one_weight_have_different_colours_at_first(tmp_path, open_page):
    """Whichever parameter comes first: a weight makes the points of one curve."""
    levels = {"style_weight": ["3", "10"], "pooling": ["avg", "max"]}
    folder = make_sweep(tmp_path, levels)
    report.write(folder)
    page = open_page(folder / "index.html")
    page.locator("#curves").scroll_into_view_if_needed()
    page.locator("#curves .mark").first.wait_for()
    assert page.get_by_label("colour by").evaluate("e => e.selectedOptions[0].text") == "pooling"
    assert "pooling=avg" in page.locator("#legend").inner_text()


def test_numbers_stay_in_one_line(tmp_path, open_page):
    """In the headings of rows and columns, below pictures, and in Compare."""
    levels = {"style_weight": ["0.000123456789", "123456789.5"], "tv_weight": ["0.1", "20000000"]}
    folder = make_sweep(tmp_path, levels)
    report.write(folder)
    page = open_page(folder / "index.html", viewport={"width": 700, "height": 900})
    page.locator("button.shot").first.click()
    heights = page.locator(".number").evaluate_all(
        "all => all.filter(e => e.offsetParent).map(e => e.getClientRects().length)"
    )
    assert len(heights) > 4
    assert set(heights) == {1}


def test_shares_are_drawn_and_a_loss_without_content_is_noted(pairs, open_page):
    page = open_page(pairs / "index.html")
    bars = page.locator("#shares .bar")
    assert bars.count() == 12
    first = data_of(pairs / "index.html")["shares"][0]["start"]
    widths = bars.first.locator("i").evaluate_all("all => all.map(e => e.offsetWidth)")
    drawn = np.array([share for share in first.values() if share])
    np.testing.assert_allclose(np.array(widths) / sum(widths), drawn, atol=0.01)
    assert page.locator("#shares .note").count() == 0
    data = page.evaluate(
        """() => {
          DATA.shares[1].end = {"content/conv4_2": 0.004, "style/conv1_1": 0.996};
          startShares();
          return document.querySelector("#shares .note").textContent;
        }"""
    )
    assert data.startswith("At the end content is 0.4 % of the loss")


def additive(settings, random):
    """Scores of subsets of two parts of which the second adds twice as much as the first."""
    pair = np.random.default_rng(int(settings["content"][-5]))
    parts = [float(part) for part in settings["style_layer_weights"][1:-1].split(",")]
    reach = 0.1 * math.log10(float(settings["style_weight"])) * any(parts)
    worth = (1 + 0.1 * pair.random()) * (parts[0] + 2 * parts[1])
    return {
        "lpips_content": reach,
        "ssim_content": None,
        "style_gram": 3.0 - 10 * worth * reach,
        "style_frechet": None,
        "colour_histogram": None,
    }


def test_what_each_part_is_worth(tmp_path, open_page):
    levels = {
        "style_layer_weights": ["[0,0]", "[1,0]", "[0,1]", "[1,1]"],
        "style_weight": ["3", "10", "30"],
        "pair": [str(pair) for pair in range(6)],
    }
    folder = make_sweep(tmp_path, levels, scores=additive)
    report.write(folder)
    (found,) = data_of(folder / "index.html")["values"]
    means = [part["mean"] for part in found["values"]]
    assert means[1] == pytest.approx(2 * means[0], rel=1e-3)
    assert sum(means) == pytest.approx(found["whole"]["mean"], rel=1e-3)
    assert found["interactions"][0][1]["mean"] == pytest.approx(0, abs=1e-6)
    assert found["pairs"] == 6
    page = open_page(folder / "index.html")
    told = page.locator("#values").inner_text()
    assert "What each part is worth" in told and "6 picture pairs" in told
    assert "part 2: 67 %, then part 1: 100 % of what all add" in told
    assert page.locator("#values .forest").count() == 3


def test_a_sweep_of_no_subsets_has_no_values(sweep, open_page):
    page = open_page(sweep / "index.html")
    assert not page.locator("#values").is_visible()
    assert not page.get_by_role("link", name="Values").is_visible()


def test_dark_and_light(sweep, open_page):
    page = open_page(sweep / "index.html", color_scheme="light")
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(colour)
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate(colour)
    assert dark != light
    assert open_page(sweep / "index.html", color_scheme="dark").evaluate(colour) == dark
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(colour) == light


def test_a_narrow_page_does_not_scroll_sideways(sweep, open_page):
    page = open_page(sweep / "index.html", viewport={"width": 400, "height": 800})
    page.locator("button.shot").first.click()
    page.locator("#scatter").scroll_into_view_if_needed()
    page.locator("#scatter .dot").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_odd_characters_in_the_browser(tmp_path, open_page):
    folder = make_sweep(tmp_path, {"recipe": ODD, "seed": ["0", "1"]}, name="<img src=x>")
    report.write(folder)
    page = open_page(folder / "index.html")
    assert page.locator("h1").inner_text() == "<img src=x>"
    page.locator("button.shot").first.click()
    assert ODD[0] in page.locator("#comparer .facts").inner_text()


@pytest.mark.parametrize("parameters", [{}, {"seed": ["0"]}, {"seed": ["0", "1"]}])
def test_small_sweeps_have_a_page_too(tmp_path, open_page, parameters):
    folder = make_sweep(tmp_path, parameters)
    report.write(folder)
    page = open_page(folder / "index.html")
    page.locator("button.shot").first.click()
    page.locator("#curves").scroll_into_view_if_needed()
    page.locator("#curves .mark").first.wait_for()


@pytest.mark.slow
def test_five_hundred_runs(tmp_path, open_page):
    levels = {"style_weight": [f"1e{power}" for power in range(5)], "pooling": ["avg", "max"]}
    folder = make_sweep(tmp_path, levels | {"seed": [str(seed) for seed in range(50)]})
    report.write(folder)
    page = open_page(folder / "index.html")
    page.locator("#axes").get_by_label("seed", exact=True).select_option(label="all")
    page.locator("button.shot").nth(499).wait_for()
    page.locator("button.shot").nth(499).click()
    page.locator(".stage img").wait_for()
    page.locator("#scatter").scroll_into_view_if_needed()
    page.locator("#scatter .dot").first.wait_for()
    assert page.locator("#scatter .dot").count() == 500

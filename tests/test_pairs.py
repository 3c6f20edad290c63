"""Sweeps over pairs of pictures: the standard set, the user's own, and what is refused."""

import json
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from nstyle import images
from nstyle.images import pairs
from nstyle.solvers.compiled import compiled

SMALL = ["size=32", "steps=1", "style_size=32", "scores=false"]


@pytest.fixture
def album(tmp_path, random):
    """Four photographs and two paintings of one size, in the folder where the command runs."""
    names = ["photos/10.png", "photos/2.PNG", "photos/1, at dawn.png", "other/2.PNG"]
    for name in [*names, "art/x.png", "art/y.png", "art/.hidden.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        images.save(tmp_path / name, random.random((32, 32, 3)).astype(np.float32))
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    (tmp_path / "photos" / "older.png").mkdir()
    return tmp_path


def sweep_in(folder):
    (path,) = folder.glob("runs/sweeps/*/sweep.json")
    return json.loads(path.read_text())


def pairs_in(folder):
    """The pairs of the runs of the only sweep, in order."""
    told = [run["settings"] for run in sweep_in(folder)["runs"]]
    return [(settings["content"], settings["style"]) for settings in told]


def test_the_standard_set_and_its_parts():
    whole, first, second, twelve, few = map(pairs.standard, pairs.STANDARD)
    assert len(whole) == len(pairs.PHOTOGRAPHS) * len(pairs.PAINTINGS) == len({*whole})
    assert all(Path(file).is_file() for pair in whole for file in pair)
    assert {*first} | {*second} == {*whole}
    assert not {*first} & {*second}
    for pictures in zip(*whole, strict=True):
        for picture in pictures:
            halves = [sum(picture in pair for pair in half) for half in (first, second)]
            assert abs(halves[0] - halves[1]) <= 1
    assert len(twelve) == 12
    assert set(Counter(pair.content for pair in twelve).values()) == {2}
    assert len({pair.style for pair in twelve}) == len(pairs.PAINTINGS)
    assert [Path(pair.content).name for pair in few] == list(pairs.PHOTOGRAPHS)
    used = Counter(pair.style for pair in few).values()
    assert max(used) - min(used) <= 1
    assert len(used) == min(len(pairs.PHOTOGRAPHS), len(pairs.PAINTINGS))


@pytest.mark.slow
def test_every_setting_on_each_pair_with_one_compile(nstyle_here, album):
    compiled.cache_clear()
    own = "pairs=[[photos/10.png,art/x.png],[photos/2.PNG,art/y.png],[photos/10.png,art/x.png]]"
    status, _, err = nstyle_here("-m", own, *SMALL, "style_weight=1e3,1e4")
    assert status == 0, err
    sweep = sweep_in(album)
    assert list(sweep["parameters"]) == ["content", "style", "style_weight"]
    assert [tuple(run["settings"].values()) for run in sweep["runs"]] == [
        ("10.png", "x.png", "1000"),
        ("10.png", "x.png", "10000"),
        ("2.PNG", "y.png", "1000"),
        ("2.PNG", "y.png", "10000"),
    ]
    results = [json.loads(path.read_text()) for path in album.glob("runs/*/result.json")]
    assert len(results) == 4
    assert sum(result["compiles"] for result in results) == 1
    assert not {"pairs", "contents", "styles"} & {*results[0]["config"]}
    for path in album.glob("runs/sweeps/*/configs/*.yaml"):
        frozen = yaml.safe_load(path.read_text())
        assert (frozen["pairs"], frozen["contents"], frozen["styles"]) == (None, None, None)

    by_hand = ["content=photos/2.PNG", "style=art/y.png", *SMALL, "style_weight=1e4"]
    for told in (by_hand, shlex.split(sweep["runs"][3]["command"])[1:]):
        assert "made before" in nstyle_here(*told)[1], "the run is the same, however it is told"


def test_all_pictures_of_two_folders_in_natural_order(nstyle_here, album, launched):
    assert nstyle_here("-m", "contents=photos", "styles=art/", *SMALL)[0] == 0
    photographs = ("1, at dawn.png", "2.PNG", "10.png")
    assert pairs_in(album) == [(c, s) for c in photographs for s in ("x.png", "y.png")]
    assert len(launched) == 6


def test_a_file_of_pairs_names_them_from_its_own_folder(nstyle_here, album, launched):
    (album / "lists").mkdir()
    lines = [
        "\ufeffcontent,style",
        "../photos/10.png, ../art/x.png",
        "",
        f'"../photos/1, at dawn.png",{album / "art" / "y.png"}',
    ]
    (album / "lists" / "my, own.csv").write_text("\r\n".join(lines), encoding="utf-8")
    status, _, err = nstyle_here("-m", "pairs=lists/my, own.csv", *SMALL)
    assert status == 0, err
    assert pairs_in(album) == [("10.png", "x.png"), ("1, at dawn.png", "y.png")]


def test_pictures_of_one_name_are_told_apart(nstyle_here, album, launched):
    own = "pairs=[[photos/2.PNG,art/x.png],[other/2.PNG,art/x.png],[photos/10.png,art/x.png]]"
    assert nstyle_here("-m", own, *SMALL)[0] == 0
    photographs = [content.strip("'") for content, _ in pairs_in(album)]
    assert photographs == ["photos/2.PNG", "other/2.PNG", "10.png"]


@pytest.mark.slow
def test_an_experiment_names_pairs(nstyle_here, album):
    (album / "my" / "experiment").mkdir(parents=True)
    (album / "pairs.csv").write_text("photos/10.png,art/x.png\nphotos/2.PNG,art/x.png\n")
    settings = {"experiment": "mine", "pairs": "pairs.csv", "hydra": {"mode": "MULTIRUN"}}
    text = f"# @package _global_\n{yaml.safe_dump(settings)}"
    (album / "my" / "experiment" / "mine.yaml").write_text(text)
    status, _, err = nstyle_here("--config-dir=my", "experiment=mine", *SMALL)
    assert status == 0, err
    assert pairs_in(album) == [("10.png", "x.png"), ("2.PNG", "x.png")]
    own = sweep_in(album)["runs"][1]["command"]
    status, _, err = nstyle_here(*shlex.split(own)[1:])
    assert (status, "1 runs, 1 of them there already" in err) == (0, True), err


def test_a_part_of_the_standard_set_in_place_of_an_experiments(nstyle_here, album, launched):
    (album / "my" / "experiment").mkdir(parents=True)
    text = "# @package _global_\nexperiment: mine\npairs: standard\n"
    (album / "my" / "experiment" / "mine.yaml").write_text(text)
    mine = ["-m", "--config-dir=my", "experiment=mine", *SMALL]
    assert nstyle_here(*mine, "pairs=few", "style=null")[0] == 0
    assert [content for content, _ in pairs_in(album)] == list(pairs.PHOTOGRAPHS)
    launched.clear()
    by_hand = ["content=photos/10.png", "style=art/x.png"]
    assert nstyle_here(*mine, "pairs=null", *by_hand)[0] == 0
    assert len(launched) == 1


REFUSED = {
    "pairs=few": "pairs: names the pictures of many runs: add -m",
    "contents=photos styles=art": "contents: names the pictures of many runs: add -m",
    "-m pairs=few content=photos/10.png": "content: photos/10.png beside pairs, which says it too",
    "-m pairs=few style=art/x.png,art/y.png": "style: art/x.png beside pairs",
    "-m contents=photos styles=art style=art/x.png": "beside contents, styles, which says it too",
    "-m pairs=few contents=photos styles=art": "pairs: beside contents and styles",
    "-m contents=photos": "contents: needs styles",
    "-m styles=art": "styles: needs contents",
    "-m pairs=few,test": "pairs: one value for all runs of a sweep, not several",
    "-m pairs=calibrate": "'calibrate' is neither a file nor a set; did you mean 'calibration'?",
    "-m pairs=nowhere.csv": "pairs: 'nowhere.csv' is neither a file nor a set",
    "-m pairs=photos": "pairs: 'photos' is neither a file nor a set",
    "-m pairs=photos/10.png": "pairs: photos/10.png is no readable file of pairs",
    "-m pairs=open_quote.csv": "pairs: open_quote.csv is no readable file of pairs",
    "-m pairs=empty.csv": "pairs: there are none in 'empty.csv'",
    "-m pairs=three.csv": "pairs: three.csv, line 2: ['a.png', 'b.png', 'c.png'] is not a",
    "-m pairs=half.csv": "pairs: half.csv, line 1: ['photos/10.png', ''] is not a photograph",
    "-m pairs=missing.csv": "pairs: missing.csv, line 3: there is no picture 'art/z.png'",
    "-m pairs=nobody.csv": "pairs: nobody.csv, line 1: ~nobody-here/a.png",
    "-m pairs=[[photos/10.png,art/z.png]]": "pairs: there is no picture 'art/z.png'",
    "-m pairs=[photos/10.png,art/x.png]": "pairs: photos/10.png is not a photograph and a painting",
    "-m pairs=[[photos/10.png]]": "pairs: ['photos/10.png'] is not a photograph and a painting",
    "-m pairs=[]": "pairs: there are none in []",
    "-m pairs=3": "pairs: 3 is no set, file or list of pairs",
    "-m contents=nowhere styles=art": "contents: there is no folder 'nowhere' that can be read",
    "-m contents=photos styles=bare": "styles: the folder 'bare' has no pictures",
    "-m pairs=[[three.csv,art/x.png]]": "run 1 of 1 (three.csv x.png): ",
}


@pytest.mark.parametrize("command", REFUSED)
def test_refused_in_one_line(nstyle_here, album, launched, command):
    for name, text in {
        "open_quote": '"photos/10.png,art/x.png\n',
        "empty": "content,style\n\n",
        "three": "photos/10.png,art/x.png\na.png,b.png,c.png\n",
        "half": "photos/10.png,\n",
        "missing": "content,style\nphotos/10.png,art/x.png\nphotos/10.png,art/z.png\n",
        "nobody": "~nobody-here/a.png,art/x.png\n",
    }.items():
        (album / f"{name}.csv").write_text(text)
    (album / "bare").mkdir()
    status, out, err = nstyle_here(*command.split(), *SMALL)
    assert (status, out, len(err.splitlines())) == (2, "", 1), err
    assert REFUSED[command] in err
    assert not launched


def test_help_names_the_parts(nstyle_here):
    told = nstyle_here("--help")[1]
    assert all(word in told for word in (*pairs.STANDARD, "contents=", "styles="))

"""Pairs of pictures as an axis of a sweep: which there are, their order, refusals, and the runs."""

import itertools
import json
import shlex
from pathlib import Path

import pytest

from nstyle import images
from nstyle.errors import NstyleError
from nstyle.pairs import PAINTINGS, PHOTOGRAPHS, pairs_of

SMALL = ["size=32", "steps=2", "style_size=content", "scores=false"]


@pytest.fixture
def folders(tmp_path):
    """Photographs 10, 2 and 1, paintings a and b, all of 32 x 32 pixels."""
    import skimage.data

    source = Path(skimage.data.__file__).parent / "coffee.png"
    for folder, names in (("photos", ("10", "2", "1")), ("art", ("b", "a"))):
        for number, name in enumerate(names):
            picture = images.load(source, "32x32") ** (1 + number)
            images.save(tmp_path / folder / f"{name}.png", picture)
    (tmp_path / "art" / "notes.txt").write_text("no picture")
    return tmp_path


def runs_of(folder):
    (path,) = folder.glob("runs/sweeps/*/sweep.json")
    return json.loads(path.read_text())


def test_the_standard_set():
    whole = pairs_of("standard", None, None)
    assert len(whole) == len(set(whole)) == len(PHOTOGRAPHS) * len(PAINTINGS) == 48
    assert all(Path(file).is_file() for pair in whole for file in pair)
    halves = [pairs_of(name, None, None) for name in ("calibration", "test")]
    assert sorted(itertools.chain(*halves)) == sorted(whole)
    for half in halves:
        photographs, paintings = zip(*half, strict=True)
        assert {photographs.count(photograph) for photograph in photographs} == {4}
        assert {paintings.count(painting) for painting in paintings} == {3}
    few = pairs_of("few", None, None)
    assert len({photograph for photograph, _ in few}) == len({p for _, p in few}) == 6


def test_folders_in_the_order_of_numbers(folders):
    found = pairs_of(None, str(folders / "photos"), str(folders / "art"))
    assert [(Path(c).stem, Path(s).stem) for c, s in found] == [
        (c, s) for c in ("1", "2", "10") for s in ("a", "b")
    ]


def test_a_file_of_pairs_is_relative_to_its_folder(folders):
    file = folders / "photos" / "pairs.csv"
    file.write_text('content,style\n1.png,../art/a.png\n\n"2.png", ../art/b.png\n')
    found = pairs_of(str(file), None, None)
    assert [tuple(Path(x).resolve().relative_to(folders) for x in pair) for pair in found] == [
        (Path("photos/1.png"), Path("art/a.png")),
        (Path("photos/2.png"), Path("art/b.png")),
    ]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            ("standart", None, None),
            "'standart' is neither a file nor a name; did you mean 'standard",
        ),
        (([["a.png"]], None, None), r"pairs: \['a.png'\] is not a photograph and a painting"),
        ((["a.png", "b.png"], None, None), "pairs: 'a.png' is not a photograph and a painting"),
        ((None, "photos", None), "contents: needs styles=FOLDER beside it"),
        ((None, None, "art"), "styles: needs contents=FOLDER beside it"),
        ((None, "nowhere", "art"), "contents: there is no folder 'nowhere'"),
        ((None, "photos", "empty"), "styles: no picture in 'empty'"),
        (("few", "photos", "art"), "pairs: give either pairs, or contents and styles"),
        (("empty.csv", None, None), "pairs: empty.csv names no pairs"),
        (("wrong.csv", None, None), "pairs: 'a,b,c' is not a photograph and a painting"),
        (("latin.csv", None, None), "pairs: latin.csv cannot be read"),
    ],
)
def test_refusals(settings, line, folders, monkeypatch):
    monkeypatch.chdir(folders)
    (folders / "empty").mkdir()
    (folders / "empty.csv").write_text("content,style\n")
    (folders / "wrong.csv").write_text("a,b,c\n")
    (folders / "latin.csv").write_bytes("Gemälde.jpg,x.jpg".encode("latin-1"))
    with pytest.raises(NstyleError, match=line):
        pairs_of(*settings)


def test_pairs_are_one_axis_and_compile_once(nstyle_here, folders):
    axes = ["contents=photos", "styles=art", "style_weight=1,2"]
    status, _, err = nstyle_here("-m", *axes, *SMALL)
    assert status == 0, err
    found = runs_of(folders)
    assert found["parameters"] == {
        "content": ["1.png", "2.png", "10.png"],
        "style": ["a.png", "b.png"],
        "style_weight": ["1", "2"],
    }
    results = [
        json.loads((folders / "runs" / Path(run["folder"]).name / "result.json").read_text())
        for run in found["runs"]
    ]
    assert len(results) == 12
    assert sum(result["compiles"] for result in results) == 1
    assert results[0]["config"]["pairs"] is None


def test_a_run_of_a_pair_is_the_run_by_hand(nstyle_here, folders):
    pairs = "pairs=[[photos/1.png,art/a.png],[photos/2.png,art/b.png]]"
    assert nstyle_here("-m", pairs, *SMALL)[0] == 0
    before = sorted(path.name for path in folders.glob("runs/*-*"))
    status, out, _ = nstyle_here("content=photos/1.png", "style=art/a.png", *SMALL)
    assert (status, "made before" in out) == (0, True)
    assert sorted(path.name for path in folders.glob("runs/*-*")) == before


def test_an_experiment_may_name_pairs(nstyle_here, folders):
    experiment = folders / "own" / "experiment" / "mine.yaml"
    experiment.parent.mkdir(parents=True)
    experiment.write_text(
        "# @package _global_\nexperiment: mine\npairs: [[photos/1.png, art/a.png]]\n"
        "hydra: {sweeper: {params: {style_weight: '1,2'}}}\n"
    )
    given = ["-m", "--config-dir", "own", "experiment=mine", *SMALL]
    status, _, err = nstyle_here(*given)
    assert status == 0, err
    command = shlex.split(runs_of(folders)["runs"][0]["command"])
    status, out, err = nstyle_here(*command[1:])
    assert (status, "made before" in out) == (0, True), err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["pairs=few"], "pairs: several pairs of pictures are a sweep; add -m"),
        (["-m", "pairs=few", "style=art/a.png"], "style: the pairs of this sweep have their own"),
        (["-m", "pairs=few,test"], "pairs: one set of pairs for a sweep, not several"),
        (["-m", "contents=photos"], "contents: needs styles=FOLDER beside it"),
    ],
)
def test_commands_are_refused_in_one_line(arguments, line, nstyle_here, folders):
    status, _, err = nstyle_here(*arguments, *SMALL)
    assert status == 2
    assert line in err and "Traceback" not in err

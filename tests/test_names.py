"""Names as a file system allows them, and settings as people write them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import command
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from nstyle import config, report
from nstyle.config import (
    compose,
    compose_training,
    from_yaml,
    quote,
    read,
    shell,
    to_yaml,
    told,
)
from nstyle.errors import NstyleError
from nstyle.feedforward import apply, train

SMALL = ["size=32", "steps=1", "style_size=32", "scores=false"]

LATIN = os.fsdecode(b"Gem\xe4lde.png")
ODD = [
    "Gemälde.png",
    "絵 と, 写真.png",
    'it\'s [1] (a) {b} "c".png',
    "a\\b\\.png",
    "${x}\\${y}.png",
    "=#~?*:@%&;|<>!.png",
    "glob(*).png",
    "[a] b.png",
    "[a,b].png",
    "two\nlines.png",
    LATIN,
    "1e3",
    "-m",
]

#: Characters of which Hydra, OmegaConf, YAML or a shell make something, and any other.
CHARACTERS = st.one_of(
    st.sampled_from("\\'\"${}[](),= \n\t#~?*:äé漢a.1" + os.fsdecode(b"\xe9\xff")),
    st.characters(exclude_characters="\0\x85", exclude_categories=("Cs",)),
)
NAMES = st.text(CHARACTERS, min_size=1, max_size=12).filter(lambda name: name != "???")


def parsed(override):
    """What Hydra makes of an override."""
    (found,) = OverridesParser.create().parse_overrides([override])
    return found


def composed(override):
    """The value that a config has in the end."""
    value = {"x": parsed(override).value()}
    return OmegaConf.to_container(OmegaConf.create(value), resolve=True)["x"]


@settings(max_examples=300, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=3))
@example(names=["a\\"])
@example(names=["\\\\${x}\\"])
@example(names=["]", "'["])
def test_what_is_quoted_hydra_reads_as_it_was(names):
    """Alone, in a list and in a choice; and so does who reads what a sweep has stored."""
    quoted = [quote(name) for name in names]
    for text, expected in ((quoted[0], names[0]), (f"[{','.join(quoted)}]", names)):
        assert read([f"style={text}"]) == [f"style={text}"]
        assert composed(f"style={text}") == expected
        stored = config.to_yaml({"style": parsed(f"style={text}").value()}).encode()
        assert OmegaConf.to_container(OmegaConf.create(stored.decode()), resolve=True) == {
            "style": expected
        }
    choice = config.values_of(parsed(f"style={','.join(quoted)}"))
    assert [composed(f"style={value}") for value in choice] == names


@settings(max_examples=150, deadline=None)
@given(name=NAMES)
@example(name="'a'")
@example(name="null")
@example(name=" ")
@example(name="[a]")
def test_what_a_command_tells_is_read_as_it_was(name):
    for key in ("content", "out"):
        override = f"{key}={quote(name)}"
        assert [composed(again) for again in read([told(override)])] == [name]


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="there is no bash")
def test_a_shell_reads_what_is_written_for_it():
    words = [*ODD, LATIN + "'\\n0\\x41", "it's", ""]
    code = f"import os, sys; sys.exit([*map(os.fsdecode, sys.argv[1:])] != {words!a})"
    command = shell([sys.executable, "-c", code, *words])
    assert command.encode()
    assert subprocess.run(["/bin/bash", "-c", command], check=False).returncode == 0


@pytest.fixture
def named(pictures, tmp_path, monkeypatch):
    """Gives a small picture a name in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)

    def copy(name, source="style.png"):
        Path(name).write_bytes((pictures / source).read_bytes())
        return name

    return copy


@pytest.mark.parametrize("name", ODD)
def test_a_file_that_is_there_is_meant_by_its_name(name, named):
    """Alone in every key; in lists and in choices, if there is no comma in it."""
    named(name), named("plain.png")
    for key in (*config.PATH_KEYS, "images"):
        assert [composed(override) for override in read([f"{key}={name}"])] == [name]
    if "," not in name:
        both = [name, "plain.png"]
        assert composed(*read([f"style=[{name}, plain.png]"])) == both
        assert composed(*read([f"pairs=[[{name},plain.png],[plain.png,{name}]]"])) == [
            both,
            both[::-1],
        ]
        (choice,) = read([f"style={name}, plain.png"])
        assert config.values_of(parsed(choice)) == [quote(own) for own in both]


@pytest.mark.parametrize("name", [*ODD, "null.png", "a,b"])
def test_what_is_still_to_be_made_is_one_name(name):
    for key in config.TARGET_KEYS:
        assert [composed(override) for override in read([f"{key}={name}"])] == [name]


def test_what_the_grammar_has_a_meaning_for_keeps_it(named, monkeypatch):
    monkeypatch.setenv("NAME", "of the environment")
    named("null")
    for value, meaning in {
        "null": None,
        "[null,'a b.png',ä.png]": [None, "a b.png", "ä.png"],
        "[#ff0000,#0000ff]": ["#ff0000", "#0000ff"],
        "[]": [],
        "'a,b.png'": "a,b.png",
        "${oc.env:NAME}": "of the environment",
    }.items():
        assert composed(*read([f"style_mask={value}"])) == meaning


def words(command):
    """What a shell makes of a command, without the program's name."""
    code = f"set -- {command}; printf '%s\\0' \"$@\""
    told = subprocess.run(["/bin/bash", "-c", code], capture_output=True, check=True).stdout
    return [os.fsdecode(word) for word in told.split(b"\0")[1:-1]]


@pytest.mark.slow
def test_a_run_with_odd_names_and_its_command(nstyle_here, named, tmp_path):
    named("絵 と, 写真.png", "content.png"), named("${x}\\.png", "content.png"), named(LATIN)
    given = ["content=絵 と, 写真.png", f"style=[{LATIN},${{x}}\\.png]", "init=${x}\\.png"]
    status, _, err = nstyle_here(*given, "runs_dir=a, [b]", "out=it's (1).png", *SMALL)
    assert status == 0, err
    (path,) = tmp_path.glob("a, [[]b]/*/result.json")
    command = words(json.loads(path.read_text())["command"])
    Path("it's (1).png").unlink()
    assert "made before" in nstyle_here(*command)[1]
    assert Path("it's (1).png").is_file()


@pytest.mark.slow
def test_a_sweep_over_odd_names_its_report_and_the_commands_of_its_runs(
    nstyle_here, named, tmp_path, monkeypatch, capsys
):
    named("ä.png"), named(LATIN), named("b [1].png", "content.png")
    runs_dir = os.fsdecode(b"l\xe4ufe")
    sweep = ["-m", "content=ä.png", f"style={LATIN},b [1].png", f"runs_dir={runs_dir}", *SMALL]
    status, _, err = nstyle_here(*sweep)
    assert status == 0, err
    (path,) = tmp_path.glob(f"{runs_dir}/sweeps/*/sweep.json")
    written = json.loads(path.read_text())
    assert written["parameters"] == {"style": [LATIN, "b [1].png"]}
    for run in written["runs"]:
        assert "made before" in nstyle_here(*words(run["command"]))[1]
    assert "2 of them there already" in nstyle_here(*words(written["command"]))[2]
    monkeypatch.setattr(sys, "argv", ["nstyle-report", str(path.parent)])
    report.main()
    assert "index.html" in capsys.readouterr().out
    table = pd.read_csv(path.parent / "table.csv")
    assert list(table["style"]) == ["Gem\\udce4lde.png", "b [1].png"]
    assert list(table.command) == [run["command"] for run in written["runs"]]


@pytest.mark.slow
def test_a_network_of_odd_names(named, tmp_path, monkeypatch, capsys):
    folder = Path(os.fsdecode(b"Photos, \xe4"))
    folder.mkdir()
    for name in ("1.png", "2.png", LATIN):
        named(folder / name, "content.png")
    named("絵.png"), named(LATIN)
    tiny = ["size=16", "batch_size=1", "steps=1", "width=2", "blocks=1", "sample_every=1"]
    tiny += ["style_layers=conv1_1", "content_layers=conv1_1"]
    composed = compose_training(
        [f"style=[絵.png,{LATIN}]", f"images={folder}", "out=m [1], x", *tiny]
    )
    assert train.train(*composed) == Path("m [1], x/model.safetensors")
    monkeypatch.setattr(sys, "argv", ["nstyle-apply", "m [1], x", str(folder), "out=${o}, p"])
    apply.main()
    assert "Gem\\udce4lde.png" in capsys.readouterr().out
    assert len([*Path("${o}, p").iterdir()]) == 3


def test_pictures_and_options_by_pattern(nstyle_here, named, launched, tmp_path):
    for name in ("10.png", "2.png", "ä.png", "b/3.png", "b/c.png"):
        Path(name).parent.mkdir(exist_ok=True)
        named(name)
    Path("notes.txt").write_text("no picture")
    assert read(["style=glob(*)"]) == ['style=2.png,10.png,"ä.png"']
    assert read(["style=glob([*.png,b/*],exclude=[ä*,*0.png])"]) == ["style=2.png,b/3.png,b/c.png"]
    assert read([f"style=glob({tmp_path}/2*)"]) == [f"style={tmp_path}/2.png"]
    every = [name for name in config.group_options("solver") if name != "adam"]
    assert read(["solver=glob(*,exclude=adam)"]) == [f"solver={','.join(every)}"]
    assert nstyle_here("-m", "content=2.png", "style=glob(*)", *SMALL)[0] == 0
    (sweep,) = tmp_path.glob("runs/sweeps/*/sweep.json")
    assert len(json.loads(sweep.read_text())["runs"]) == 3


LISTS = {
    "style_layers=conv1_1": ["style_layers=[conv1_1]"],
    "style_layers=conv1_1,[conv2_1,conv3_1]": ["style_layers=[conv1_1],[conv2_1,conv3_1]"],
    "style_blend=1": ["style_blend=[1]"],
    "style_layer_weights=null": ["style_layer_weights=null"],
    "style_layer_weights=range(1,3)": ["style_layer_weights=[1],[2]"],
    "objectives=[]": ["objectives=[]"],
    "style_weight=1": ["style_weight=1"],
}


@pytest.mark.parametrize("argument", LISTS)
def test_a_single_value_is_a_list_where_lists_are(argument):
    assert read([argument]) == LISTS[argument]
    assert read(LISTS[argument]) == LISTS[argument]


def test_a_single_layer_in_python():
    assert compose(style_layers="conv1_1").style_layers == ["conv1_1"]


REFUSED = {
    "content=": "content: no value given",
    "style=": "style: no value given",
    "style=[plain.png,'']": "style: ['plain.png', ''] is neither a file nor a list of files",
    "content_mask=": "content_mask: no value given",
    "runs_dir=": "runs_dir: no value given",
    "seed=": "seed: no value given",
    "seed=1 seed=2": "seed: given twice, seed=1 and seed=2; give one",
    "solver=adam solver=sgd": "solver: given twice",
    "-m seed=range(3,1)": "seed: there is no value in seed=range(3,1)",
    "-m style=glob(*.jpg)": "style: there is nothing for glob(*.jpg)",
    "-m recipe=glob(x*)": "recipe: there is nothing for glob(x*)",
    "-m experiment=glob(*)": "experiment: one experiment at a time",
    "-m seed=glob(*)": "seed: glob is for pictures and for content_loss, experiment,",
    "--style_weight 3": "did you mean 'style_weight=...'?",
    "--style-weight=3": "did you mean 'style_weight=3'?",
    "style_weight 3": "did you mean 'style_weight=...'?",
    "-cn other": "--config-name: 'other' is refused: settings of your own are a recipe",
    "-cp there": "--config-path: 'there' is refused: a folder of your own is added",
    "--experimental-rerun a.pickle": "--experimental-rerun: 'a.pickle' is refused: a run's command",
    "-m --cfg job": "--multirun and --cfg: give one of them",
    "--hydra-help --info": "--info and --hydra-help: give one of them",
    "--cfg settings": "argument --cfg/-c: invalid choice: 'settings' (choose from",
    "content=. style=plain.png": "picture: . is a folder (a sweep over its pictures:",
    "-m content=. style=plain.png": "run 1 of 1: picture: . is a folder",
    "-cd nowhere": "--config-dir: there is no folder 'nowhere'",
    "hydra.run.dir=x": "hydra.run.dir: a run has its own folder in runs_dir; write runs_dir=FOLDER",
    "-m hydra.sweep.dir=x": "hydra.sweep.dir: sweeps lie in runs_dir; write runs_dir=FOLDER",
    "-m hydra/sweeper=optuna": "hydra.sweeper.direction: minimize for the objectives"
    " lpips_content, style_gram; write hydra.sweeper.direction=[minimize,minimize]",
    "-m hydra/sweeper=optuna objectives=style_gram hydra.sweeper.direction=less": "direction: less",
    "-m hydra/sweeper=optuna objectives=style_gram scores=false": "scores: false",
    "-m hydra/sweeper=optuna objectives=ssim_content": "hydra.sweeper.direction: minimize for the"
    " objectives ssim_content; write hydra.sweeper.direction=[maximize]",
    "-m hydra/sweeper=optuna hydra.sweep.dir=x": "hydra.sweep.dir: sweeps lie in runs_dir",
}


@pytest.mark.parametrize("command", REFUSED)
def test_refused_in_one_line(command, nstyle_here, named, tmp_path):
    named("plain.png")
    status, out, err = nstyle_here(*command.split())
    assert (status, out, len(err.splitlines())) == (2, "", 1), err
    assert REFUSED[command] in err
    assert [path.name for path in tmp_path.iterdir()] == ["plain.png"]


def test_an_error_is_one_line_whatever_the_name(nstyle_here, named):
    named("plain.png")
    status, _, err = nstyle_here("content=two\nlines.png", "style=plain.png")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "two\\nlines.png" in err


def test_other_commands_take_no_setting_twice_and_none_empty():
    for arguments, line in (
        (["out=a", "out=b"], "out: given twice"),
        (["out="], "out: no value given"),
    ):
        with pytest.raises(NstyleError, match=line):
            apply._parsed(["model", "a.png", *arguments])
        with pytest.raises(NstyleError, match=line):
            compose_training(arguments)


@pytest.mark.slow
def test_a_search_for_one_objective(nstyle_here, named, tmp_path):
    named("ä.png", "content.png"), named("b, c.png")
    search = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "objectives=style_gram"]
    given = ["content=ä.png", "style='b, c.png'", "size=48", "style_size=48", "steps=1"]
    status, out, err = nstyle_here(*search, *given, "style_weight=interval(1,100)")
    assert status == 0, err
    (path,) = tmp_path.glob("runs/searches/search-*/optimization_results.yaml")
    found = OmegaConf.load(path)
    scores = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/scores.json")]
    assert found.best_value == min(score["scores"]["style_gram"] for score in scores)
    best, told = out.splitlines()[-2:]
    weight = found.best_params.style_weight
    assert best == f"style_weight={weight:.4g}  style_gram={found.best_value:.4g}"
    place = path.relative_to(tmp_path)
    assert told == f"search {place}  the best trial; all trials: nstyle report runs"
    assert {path.name for path in tmp_path.iterdir()} == {"ä.png", "b, c.png", "runs"}


@pytest.mark.slow
def test_a_search_for_two_objectives(nstyle_here, named, tmp_path):
    named("content.png")
    search = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2"]
    two = ["objectives=[style_gram,ssim_content]", "hydra.sweeper.direction=[minimize,maximize]"]
    given = ["content=content.png", "style=content.png", "size=48", "style_size=48", "steps=1"]
    status, out, err = nstyle_here(*search, *two, *given, "style_weight=interval(1,100)")
    assert status == 0, err
    (path,) = tmp_path.glob("runs/searches/*/optimization_results.yaml")
    count = len(OmegaConf.load(path).solutions)
    assert out.splitlines()[-1].endswith(f"  the front of {count}; all trials: nstyle report runs")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--hydra-help"], "Hydra"),
        (["-sc", "install=bash"], "complete -o nospace"),
        (["--run", "hydra.verbose=true", *SMALL], "result.png"),
        (["--info", "defaults", *SMALL], "recipe/default"),
    ],
)
def test_flags_of_hydra_go_through(flags, told, given, tmp_path):
    """In a process of their own: Hydra sets up the logging of all of it."""
    process = command(*flags, *(given if SMALL[0] in flags else []), folder=tmp_path)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, told in out) == (0, True), err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("nstyle style_loss=wa", ["style_loss=wasserstein"]),
        ("nstyle recipe=gat", ["recipe=gatys-code", "recipe=gatys2015", "recipe=gatys2016"]),
        ("nstyle style_wei", ["style_weight="]),
    ],
)
def test_tab_completes(typed, offered, nstyle_here, monkeypatch):
    """What bash asks when Tab is pressed; no schema is among the groups' names."""
    monkeypatch.setenv("COMP_LINE", typed)
    monkeypatch.setenv("COMP_POINT", str(len(typed)))
    status, out, _ = nstyle_here("-sc", "query=bash")
    assert (status, out.split()) == (0, offered)


@pytest.mark.parametrize(
    "text", ["Gem\udce4lde.png", "ä.png", "1e3", "on", "null", "a: b", "'", ""]
)
def test_yaml_has_any_text(text):
    config = OmegaConf.create({"style": [text, None], "seed": 1, "tolerance": 1e-5})
    assert from_yaml(to_yaml(config)) == config
    if text.isascii():
        assert OmegaConf.create(to_yaml(config)) == config


def test_a_text_that_looks_like_another_setting_is_no_number():
    with pytest.raises(NstyleError, match=r"seed: 'range.*' is not a number"):
        compose(seed="range${seed}")


@pytest.mark.parametrize("setting", ["balance", "rescale", "reuse", "noise.around_mean_pixel"])
def test_the_text_of_another_setting_is_no_switch(setting, nstyle_here, given):
    status, _, err = nstyle_here(*given, f"{setting}=${{style_falloff}}")
    assert (status, err) == (
        2,
        f"nstyle: {setting}: '${{style_falloff}}' is neither true nor false\n",
    )

"""Names as a file system allows them, and settings as people write them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from nstyle import config
from nstyle.config import quote, read, shell, told

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
    assert config.values_of(parsed(f"style={','.join(quoted)}")) == quoted


@settings(max_examples=150, deadline=None)
@given(name=NAMES)
@example(name="'a'")
@example(name="null")
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


@pytest.mark.parametrize("name", [name for name in ODD if name not in ("1e3", "-m")])
def test_runs_of_any_name_and_their_commands(name, nstyle_here, named, launched, tmp_path):
    """Planned as far as their folders: a sweep's, and each run by itself."""
    named(name), named("plain.png", "content.png")
    runs = f"runs_dir={Path(name).stem}"
    paintings = f"plain.png,{quote(name)}"
    status, _, err = nstyle_here("-m", f"content={name}", f"style={paintings}", runs, *SMALL)
    assert (status, len(launched)) == (0, 2), err
    (path,) = (tmp_path / Path(name).stem / "sweeps").glob("*/sweep.json")
    sweep = json.loads(path.read_text())
    assert sweep["parameters"] == {"style": ["plain.png", name]}
    again = [shell(["nstyle", *words(run["command"])]) for run in sweep["runs"]]
    assert again == [run["command"] for run in sweep["runs"]]
    launched.clear()
    for command in (sweep["command"], *again):
        status, _, err = nstyle_here(*words(command), *["-m"][len(launched[2:]) :])
        assert status == 0, err

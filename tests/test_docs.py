"""The documentation: its commands are read by the program, its links lead somewhere."""

import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import replaced

from nstyle import images
from nstyle.config import check_overrides, compose_training, read
from nstyle.config.groups import group_options

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PAGES = [page for page in PAGES if "_build" not in page.parts]


def blocks(page, kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page):
    """The arguments of every `nstyle` and `nstyle-train` in a page's shell blocks."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").split("\n"):
            words = shlex.split(line, comments=True)
            names = [i for i, word in enumerate(words) if re.fullmatch(r"nstyle(-train)?", word)]
            if names and words[0] != "pip":
                yield words[names[0]], words[names[0] + 1 :]


COMMANDS = [
    pytest.param(name, arguments, id=f"{page.stem}: {' '.join(arguments)[:60]}")
    for page in PAGES
    for name, arguments in commands(page)
]


@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_every_command_is_read(name, arguments):
    """Its settings are known, its values allowed; the pictures it names are the reader's."""
    if name == "nstyle-train":
        given = [own for own in arguments if not own.startswith(("style=", "images=", "out="))]
        compose_training([own for own in given if "=" in own])
        return
    others = ("weights", "train", "apply", "report", "serve", "inspect", "export")
    if arguments and arguments[0] in others:
        return
    settings = [own for own in arguments if "=" in own and not own.startswith("--")]
    own_names = ("style_loss=gram,angle", "recipe=mine", "style_layers=[...]")
    read_settings = read(own for own in settings if own not in own_names)
    check_overrides(own for own in read_settings if not own.startswith("hydra/"))


@pytest.fixture
def album(pictures, tmp_path):
    """The files that the pages' commands name."""
    photograph, painting = (images.load(pictures / f"{name}.png") for name in ("content", "style"))
    for name in ("photo.jpg", "a.jpg", "b.jpg", "photos/1.jpg", "photos/2.jpg"):
        images.save(tmp_path / name, photograph)
    for name in ("art.jpg", "x.jpg", "y.jpg", "starry_night.jpg", "paintings/1.jpg"):
        images.save(tmp_path / name, painting)
    for name, side in (("labels.png", (36, 48)), ("art_labels.png", (40, 40))):
        halves = np.zeros((*side, 3))
        halves[:, :20, 0], halves[:, 20:, 2] = 1, 1  # red and blue
        images.save(tmp_path / name, halves)
    (tmp_path / "pairs.csv").write_text("photo.jpg,art.jpg\n")
    return tmp_path


QUICK = {"size": "32", "steps": "1", "pyramid.levels": "1", "scores": "false", "tracker": "none"}
TRAINING = {"size": "32", "steps": "1", "batch_size": "1", "width": "8", "blocks": "1"}
#: Of folders that other commands made, of a cluster, of weights that are fetched; experiments are
#: planned by `test_sweep`.
ELSEWHERE = ("report", "export", "inspect", "hydra/launcher", "vgg19.h5", "experiment=")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_every_command_runs(name, arguments, album, nstyle_here, launched):
    """As written but for sizes, steps and pairs; of a sweep all is planned, and nothing started."""
    if any(word in own for word in ELSEWHERE for own in arguments):
        return
    if name == "nstyle-train" or arguments[0] == "train":
        size = {"size": "64"} if any("upscale" in own for own in arguments) else {}
        quick = [f"{key}={value}" for key, value in (TRAINING | size).items()]
        own = [own for own in arguments if "=" in own and not own.startswith("tracker=")]
        command = ["train", *replaced([*own, "images=photos"], *quick)]
    elif arguments[0] == "weights":
        command = arguments
    else:
        several = ["pairs=pairs.csv"] if any("pairs=" in own for own in arguments) else []
        layers = [f"conv{block}_1" for block in range(1, 6)]
        settings = [own.replace("[...]", f"[{','.join(layers)}]") for own in arguments]
        settings = [
            own.replace(",13,", ",5,") for own in settings if not own.startswith(("-", "tracker"))
        ]
        size = {"size": "64"} if any("mask" in own for own in arguments) else {}
        quick = [f"{key}={value}" for key, value in (QUICK | size).items()]
        flags = [own for own in arguments if own.startswith("-")]
        command = [*flags, *replaced(settings, *quick, *several)]
    status, _, error = nstyle_here(*command)
    assert status == 0, error


def test_there_are_commands():
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_are_there(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).is_file(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_blocks_are_python(page):
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")


@pytest.mark.slow
def test_python_blocks_run(pictures, tmp_path, monkeypatch):
    """Those of the readme and of the page about Python, as written but for sizes and steps."""
    monkeypatch.chdir(tmp_path)
    for name, copy in (("content", "photo"), ("style", "art")):
        (tmp_path / f"{copy}.jpg").write_bytes((pictures / f"{name}.png").read_bytes())
    small = {
        "size=256": 'size=48, steps=2, **{"pyramid.levels": 1}',
        ", steps=100": "",
        "[3, 10, 30]": "[0.1, 10, 100]",  # far enough apart for curves of few steps to meet
        'pairs="few", size=128': 'pairs=[["photo.jpg", "art.jpg"]], size=48, steps=12, threads=1',
    }
    python = blocks(ROOT / "docs" / "python.md", "python")[:3]
    found = {}
    for block in (*blocks(ROOT / "README.md", "python"), *python):
        for written, quick in small.items():
            block = block.replace(written, quick)
        exec(block, found)
    assert found["result"].image.shape == (36, 48, 3)
    assert len(found["again"]) == 6
    assert list(found["differences"].index) == ["max"]
    assert {"grid.pdf", "curves.svg", "trade-off.pdf"} <= {path.name for path in tmp_path.iterdir()}


def test_the_page_of_settings_has_every_option():
    spec = importlib.util.spec_from_file_location("page", ROOT / "docs" / "settings_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.page()
    for group in ("pooling", "style_loss", "content_loss", "smoothing", "solver"):
        assert all(f"| `{name}` |" in page for name in group_options(group))
    for setting in ("style_weight", "pyramid.least", "pooling.exponent", "style_loss.samples"):
        assert setting in page
    written = (ROOT / "docs" / "settings.md").read_text()
    assert written == page, "docs/settings.md is old: make docs writes it again"


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.encode()) <= 8192

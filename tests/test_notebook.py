"""What a notebook shows, by a stand-in for IPython."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import nstyle
from nstyle.runs import notebook, stylized

SMALL = {"size": 32, "steps": 4, "pyramid.levels": 1, "tolerance": 0}


@pytest.fixture
def cell(monkeypatch):
    """What is displayed, in order."""
    shown = []
    handle = SimpleNamespace(update=shown.append)

    def display(page, display_id):
        shown.append(page)
        return handle

    displays = SimpleNamespace(HTML=lambda text: text, display=display)
    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1), display=displays)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", displays)
    monkeypatch.setattr(notebook, "_SECONDS", 0.0)
    return shown


@pytest.fixture
def files(pictures):
    return pictures / "content.png", pictures / "style.png"


def test_a_picture_is_shown_as_it_grows(cell, files, capsys):
    result = nstyle.stylize(*files, **SMALL)
    first, *growing, last = cell
    assert "compiling" in first
    assert [page.count("<img src=") for page in growing] == [1] * 5
    assert ["step 0/4  loss" in growing[0], "step 4/4  loss" in growing[-1]] == [True, True]
    assert len(set(growing)) == 5
    assert last == ""
    assert capsys.readouterr() == ("", "")
    assert result.stop == "steps"


def test_an_interrupt_returns_the_best_so_far(cell, files, monkeypatch):
    row = stylized.row

    def interrupted(step, job):
        if step.step == 3:
            raise KeyboardInterrupt
        return row(step, job)

    monkeypatch.setattr(stylized, "row", interrupted)
    result = nstyle.stylize(*files, **SMALL)
    assert (result.stop, len(result.trace)) == ("interrupted", 3)
    assert result.image.shape == (24, 32, 3)
    assert cell[-1] == ""


def test_elsewhere_an_interrupt_is_one(files, monkeypatch):
    monkeypatch.setattr(stylized, "row", lambda step, job: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        nstyle.stylize(*files, **SMALL)


def test_elsewhere_lines_tell_of_it_unless_they_are_not_wanted(files, capsys):
    nstyle.stylize(*files, **SMALL)
    assert "step 4/4  loss" in capsys.readouterr().err
    nstyle.stylize(*files, **SMALL, progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_result_is_shown_as_picture_line_and_curve(files):
    result = nstyle.stylize(*files, **SMALL, progress=False)
    page = result._repr_html_()
    assert page.startswith('<div><img src="data:image/jpeg;base64,')
    assert f"loss {result.loss:.4g}" in page
    assert "of 4 (all steps done)" in page
    points = page.partition('points="')[2].partition('"')[0].split()
    heights = [float(point.split(",")[1]) for point in points]
    losses = [row["loss"] for row in result.trace]
    np.testing.assert_array_equal(np.argsort(heights), np.argsort(losses)[::-1])
    assert len(page) < 30_000


def test_recipes_of_ones_own_from_python(files, tmp_path, monkeypatch):
    from nstyle.config import groups

    monkeypatch.setattr(groups._Own, "folder", None)
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [default]\nrecipe: mine\nsteps: 2\n"
    )
    given = {key: value for key, value in SMALL.items() if key != "steps"}
    result = nstyle.stylize(*files, recipe="mine", config_dir=tmp_path, progress=False, **given)
    assert len(result.trace) == 3

"""What is installed: everything that a user without a checkout needs, and no path of this one."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import nstyle

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "-w", folder, ROOT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_a_wheel_has_all_that_a_checkout_has(wheel):
    names = set(wheel.namelist())
    here = {
        str(path.relative_to(ROOT))
        for pattern in ("*.py", "*.pyi", "*.html", "*.js", "*.css", "py.typed")
        for path in (ROOT / "nstyle").rglob(pattern)
        if "plugins" not in path.parts
    }
    configs = {f"nstyle/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    paintings = {
        f"nstyle/styles/{path.name}" for path in (ROOT / "experiments/demo/styles").glob("*.jpg")
    }
    assert here | configs | paintings | {"hydra_plugins/_nstyle.py"} <= names
    assert {name.split("/")[0] for name in names} == {
        "nstyle",
        "hydra_plugins",
        f"nstyle-{nstyle.__version__}.dist-info",
    }


def test_a_wheel_names_its_commands_and_license(wheel):
    (commands,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert b"nstyle = nstyle.cli:main" in wheel.read(commands)
    (metadata,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    told = wheel.read(metadata).decode()
    for line in ("License-Expression: MIT", "Requires-Python: >=3.11", "Provides-Extra: cuda"):
        assert line in told

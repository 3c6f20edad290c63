"""Commands ask for memory in large pages, once, where the system lets them choose."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from pathlib import Path
from nstyle.process import huge_pages
huge_pages._MODES = Path(sys.argv[1])
huge_pages.start_over_with_them("nstyle")
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), *sys.argv[2:])
"""
ASKED = (
    "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"
    ":glibc.malloc.mmap_threshold=100000000:glibc.malloc.trim_threshold=32000000"
)
ON_REQUEST, ALWAYS = "always [madvise] never", "[always] madvise never"


@pytest.mark.parametrize(
    ("name", "modes", "before", "after"),
    [
        ("nstyle", ON_REQUEST, None, ASKED),
        ("nstyle", ALWAYS, None, None),
        ("nstyle", None, None, None),
        ("nstyle", ON_REQUEST, "glibc.malloc.arena_max=1", "glibc.malloc.arena_max=1"),
        ("of-my-own", ON_REQUEST, None, None),
    ],
)
def test_a_command_starts_over_in_its_own_process(tmp_path, name, modes, before, after):
    program, file = tmp_path / name, tmp_path / "enabled"
    program.write_text(PROGRAM)
    if modes is not None:
        file.write_text(modes)
    environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[1])}
    environment |= {"GLIBC_TUNABLES": before} if before else {}
    command = [sys.executable, program, file, "a=b c", "--help"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate()
    assert output.split("\n")[0] == f"{process.pid} {after} a=b c --help"

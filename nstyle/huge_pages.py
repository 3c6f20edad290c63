"""Memory in pages of 2 MB, where Linux gives them to those who ask.

XLA on the CPU takes fresh memory for every evaluation, and the kernel maps it a page at a time:
with pages of 2 MB instead of 4 kB an evaluation takes some 5 % less time, one by tiles 8 to 12 %
(`experiments/benchmarks/tiles.py --small-pages`). glibc asks for them from version 2.35 on, if it
is told so before the program starts.
"""

import os
import sys
from pathlib import Path

#: What tells glibc to ask for them.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

#: Where Linux says whether it gives them to all, to those who ask, or to nobody.
_MODES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def start_over_with_them(program: str) -> None:
    """Starts this process over with `ENVIRONMENT` where that makes a difference.

    The process stays the same to others: its number, terminal and open files. Nothing happens where
    `GLIBC_TUNABLES` is set, so also the second time, and where it is not that program that runs but
    a test or somebody's own.

    Args:
      program: name of the installed command that is running.
    """
    started = Path(sys.orig_argv[1]).name if len(sys.orig_argv) > 1 else ""
    if started != program or not _on_request() or ENVIRONMENT.keys() & os.environ.keys():
        return
    os.environ.update(ENVIRONMENT)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _on_request() -> bool:
    try:
        return "[madvise]" in _MODES.read_text()
    except OSError:
        return False

"""Memory in pages of 2 MB where Linux gives them to those who ask, and kept once it is there.

XLA on the CPU takes fresh memory for every evaluation, and the kernel maps and zeroes it a page at
a time, by tiles for every tile anew. Pages of 2 MB instead of 4 kB take some 5 % off the time of an
evaluation, 8 to 12 % by tiles, and keeping what one program leaves for the next another 9 % by
tiles (`experiments/benchmarks/tiles.py --small-pages` measures without both). An evaluation of a
whole picture gains nothing by what is kept, which adds 35 MiB to a run of 512 px. glibc gives large
pages from version 2.35 on, if it is told so before the program starts.
"""

import ctypes
import os
import sys
from pathlib import Path

#: What tells glibc to ask for them, and to keep blocks of up to 100 MB, 32 MB in all. A single
#: arena, as those that threads have of their own keep no block above 64 MB.
ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"
    ":glibc.malloc.mmap_threshold=100000000:glibc.malloc.trim_threshold=32000000"
}

#: glibc's number of the option that says how much it keeps, and the bytes that tiles make use of.
_TRIM_THRESHOLD, _KEPT_FOR_TILES = -1, 200_000_000

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


def keep_for_tiles() -> None:
    """Tells glibc, where that is, to keep more of what is freed: each tile takes it again."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_TRIM_THRESHOLD, _KEPT_FOR_TILES)


def give_back() -> None:
    """Gives the system, where glibc can, memory that is free among what is still in use.

    After a compilation at 512 px that is some 200 MiB, which a run would carry along.
    """
    if malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        malloc_trim(0)


def _on_request() -> bool:
    try:
        return "[madvise]" in _MODES.read_text()
    except OSError:
        return False

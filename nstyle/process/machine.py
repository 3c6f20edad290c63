"""What a process may have of the machine."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path


def memory_limit(root: Path = Path("/")) -> int:
    """Returns the bytes of memory that this process may use.

    The least of the machine's, of its control groups' (Linux, versions 1 and 2) and of `ulimit -v`,
    that for addresses which the process has mapped and does not use.

    Args:
      root: where `proc` and `sys` are.
    """
    pages = os.sysconf("SC_PAGE_SIZE")
    limits = [pages * os.sysconf("SC_PHYS_PAGES"), *_group_limits(root)]
    addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    if addresses != resource.RLIM_INFINITY:
        mapped, used = map(int, (root / "proc/self/statm").read_text().split()[:2])
        limits.append(addresses - pages * (mapped - used))
    return min(limits)


def _group_limits(root: Path) -> Iterator[int]:
    """Yields the limits of the control groups that this process is in, and of those around them."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if not controllers:
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        place = top / path.lstrip("/")
        for folder in (place, *place.parents):
            file = folder / name
            if folder.is_relative_to(top) and file.is_file():
                limit = file.read_text().strip()
                if limit.isdecimal():  # "max" is none
                    yield int(limit)

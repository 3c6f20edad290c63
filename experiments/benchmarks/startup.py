"""Time from the command to the first step, with an empty and with a warm compilation cache.

    python experiments/benchmarks/startup.py [--size 256] [--rounds 3]

Every row is of fresh processes, the median of several:

- `python`: a Python that does nothing; `import nstyle` and `compose`: one that also does that;
- `first step`: from the start of `nstyle content=... style=... size=256 steps=1 scores=false` until
  the first step is in the run's `trace.csv`; `full size`: until the first step at the size of the
  result is, after those of the coarser sizes; `end`: until the process has ended. Both with an
  empty cache of compiled programs (`cold`) and with that of the run before (`warm`).

Prints a table, and writes it with the machine as JSON where `--json FILE` is given.
"""

import argparse
import csv
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import common

_POLL_SECONDS = 0.005


def main() -> None:
    parser = common.parser(__doc__, size=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    compose = f"from nstyle.config import compose; compose(content={str(options.content)!r})"
    snippets = {"python": "pass", "import nstyle": "import nstyle", "compose": compose}

    rows = {
        name: median(seconds_of(snippet) for _ in range(options.rounds))
        for name, snippet in snippets.items()
    }
    cold, warm = [], []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(started(options, cache))
            warm.append(started(options, cache))
    for kind, found in (("cold", cold), ("warm", warm)):
        for event in found[0]:
            rows[f"{event}, {kind}"] = median(times[event] for times in found)

    for name, seconds in rows.items():
        print(f"{name:18} {seconds:6.2f} s")
    common.write(options.json, {"size": options.size, "seconds": rows, "cold": cold, "warm": warm})


def median(times: Iterable[float]) -> float:
    return statistics.median(list(times))


def seconds_of(snippet: str) -> float:
    """Returns the seconds that a Python takes for a snippet, from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", snippet], check=True)
    return time.perf_counter() - began


def started(options: argparse.Namespace, cache: str) -> dict[str, float]:
    """Returns the seconds from the command to its first steps and to its end."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-c", "from nstyle.cli import main; main()"),
            *(f"content={options.content.resolve()}", f"style={options.style.resolve()}"),
            *(f"size={options.size}", "steps=1", "scores=false", f"runs_dir={folder}"),
        ]
        found: dict[str, float] = {}
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=environment | {"NSTYLE_CACHE": cache},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        while process.poll() is None or "full size" not in found:
            now = time.perf_counter() - began
            sizes = sizes_of_steps(Path(folder))
            if len(sizes) > 1:
                found.setdefault("first step", now)
            if sizes.count(options.size) > 1:
                found.setdefault("full size", now)
            if process.poll():
                _, errors = process.communicate()
                common.fail(errors.decode())
            time.sleep(_POLL_SECONDS)
        return found | {"end": time.perf_counter() - began}


def sizes_of_steps(folder: Path) -> list[int]:
    """Returns the size of each picture that was evaluated so far."""
    for path in folder.glob("*/trace.csv"):
        rows = csv.DictReader(io.StringIO(path.read_text()))
        return [int(row["size"]) for row in rows if row["tv/raw"]]
    return []


if __name__ == "__main__":
    main()

"""The report of a sweep: its runs as a table, and as one page that opens without a network.

`nstyle-report SWEEP` writes into the sweep's folder

    index.html       pictures, loss curves, trade-offs, statistics and every run with its command
    table.csv        a row for each finished run
    table.parquet    the same, where pyarrow is installed

The page holds its pictures and its code. Its charts are drawn by a few functions of its own rather
than by Plotly, whose script alone is larger than a report of a hundred runs, and whose points the
keyboard does not reach.
"""

import importlib.util
import sys
from pathlib import Path

from nstyle.errors import NstyleError
from nstyle.files import write_atomic
from nstyle.process.command import LineParser, run_command
from nstyle.report.sweep_page import page
from nstyle.report.sweeps import read
from nstyle.report.tables import table


def main() -> None:
    """Runs `nstyle-report` and exits: 0 done, 2 wrong input, 130 interrupted."""
    run_command("nstyle-report", _main)


def _main(arguments: list[str]) -> None:
    parser = LineParser("nstyle-report", description="Writes the page and the table of a sweep.")
    parser.add_argument("sweep", type=Path, help="a sweep's folder, or any folder of runs")
    parser.add_argument("--out", type=Path, help="where to write; by default into the sweep")
    options = parser.parse_args(arguments)
    for path in write(options.sweep.expanduser(), options.out and options.out.expanduser()):
        print(path)


def write(folder: Path, out: Path | None = None) -> list[Path]:
    """Writes the report of a sweep and returns the paths of its files.

    Args:
      folder: a sweep's folder, or a folder of runs.
      out: where to write; None for `folder`.

    Raises:
      NstyleError: there is no such folder, nothing in it is finished, its `sweep.json` is damaged,
        or `out` cannot be written.
    """
    out = out or folder
    sweep = read(folder)
    if not sweep.done:
        raise NstyleError(f"sweep: none of the {len(sweep.members)} runs of {folder} is finished")
    frame = table(sweep)
    files = {
        "index.html": page(sweep, frame, out).encode(errors="backslashreplace"),
        "table.csv": frame.to_csv(index=False).encode(),
    }
    if importlib.util.find_spec("pyarrow"):
        files["table.parquet"] = frame.to_parquet(engine="pyarrow", index=False)
    else:
        print("nstyle-report: note: no table.parquet, pyarrow is not installed", file=sys.stderr)
    for name, content in files.items():
        write_atomic(out / name, content)
    return [out / name for name in files]

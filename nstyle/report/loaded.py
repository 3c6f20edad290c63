"""Sweeps from Python: `sweep` makes one, `load` reads one as a table with its pictures."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nstyle import images
from nstyle.config import flat
from nstyle.config.overrides import literal
from nstyle.errors import NstyleError, check_choice
from nstyle.report import paper
from nstyle.report.sweeps import read
from nstyle.report.tables import LOSSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Most rows with pictures in a notebook, and the longest side of these in pixels.
_SHOWN, _THUMBNAIL = 24, 96


@dataclass(frozen=True)
class Runs:
    """The finished runs of a sweep, or of a folder of runs.

    Attributes:
      table: a row for each run: its settings, those in groups as `pyramid.least`, lists as one
        types them, `[conv1_1,conv2_1]`; `content_file`
        and `style_file`, names without folders; its scores; `loss` and its parts at the best step;
        `stop`, `steps_done`, `seconds`, `folder` and `command`. Numbers are numbers.
      folder: what was read.
    """

    table: pd.DataFrame = field(repr=False)
    folder: Path

    def __len__(self) -> int:
        """Returns how many runs there are."""
        return len(self.table)

    def picture(self, index: Any) -> np.ndarray:
        """Returns the result of a run, float32 (height, width, 3) in [0, 1].

        Args:
          index: of the table; so rows may be left out and sorted before.
        """
        return images.load(Path(self.table.loc[index, "folder"]) / "result.png")

    def trace(self, index: Any) -> pd.DataFrame:
        """Returns the trace of a run, a row for each step."""
        return pd.read_csv(Path(self.table.loc[index, "folder"]) / "trace.csv")

    @property
    def varied(self) -> list[str]:
        """The settings that differ between runs."""
        own = self.table.columns[: self.table.columns.get_loc("content_file")]
        return [name for name in own if self.table[name].astype(str).nunique() > 1]

    def keep(self, rows: Any) -> "Runs":
        """Returns some of the runs.

        Args:
          rows: of the table, as `runs.table["style_weight"] == 10`.
        """
        return Runs(self.table[rows], self.folder)

    def grid(self, columns: str, rows: str = "content_file") -> "Figure":
        """Returns pictures by two columns of the table, one in a cell, as a figure.

        `savefig` writes it as PDF, SVG or PNG.

        Raises:
          NstyleError: a column is unknown, or several runs share a cell.
        """
        return paper.grid(self.table, self.picture, columns, rows)

    def curves(self, by: str, term: str = "loss") -> "Figure":
        """Returns a term of each trace by step, coloured by a column of the table, as a figure.

        Raises:
          NstyleError: a column or term is unknown.
        """
        check_choice("parameter", by, [*self.table])
        labels = self.table[by].map(str)
        return paper.curves([(labels[index], self.trace(index)) for index in labels.index], term)

    def trade_off(self, by: str, x: str = "style_gram", y: str = "lpips_content") -> "Figure":
        """Returns two scores against each other along the style weights, a curve for each level.

        Means over the pairs of pictures that have all, with 95 % bands from five pairs on.

        Args:
          by: the setting whose levels are compared.
          x: a score, across.
          y: a score, up.

        Raises:
          NstyleError: no weight varies, or no pair has all levels.
        """
        return paper.trade_off(self.table, self.varied, by, x, y)

    def compare(
        self,
        by: str,
        baseline: Any = None,
        x: str = "style_gram",
        y: str = "lpips_content",
    ) -> pd.DataFrame:
        """Returns by how much a score differs from that of one level, by pair of pictures.

        Where a style or content weight varies, at an equal `x`, else at the same settings. The
        table has `to_latex` and `to_markdown`: `difference`, the 95 % interval `low` to `high`
        (Student's t, from five pairs on), `p` after Holm, on how many `pairs` it is `lower on`.

        Args:
          by: the setting whose levels are compared.
          baseline: the level that the others are compared with; None for the first.
          x: the score that is held equal.
          y: the score that is compared.

        Raises:
          NstyleError: a name is unknown, or no pair has two levels.
        """
        return paper.compare(self.table, self.varied, by, baseline, x, y)

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: a row for each run with a small picture."""
        shown = self.table.head(_SHOWN)
        columns = [
            *self.varied,
            "content_file",
            "style_file",
            "lpips_content",
            "style_gram",
            "loss",
        ]
        known = [name for name in dict.fromkeys(columns) if name in shown]

        def thumbnail(index: Any) -> str:
            return f'<img src="{images.data_uri(self.picture(index), _THUMBNAIL)}">'

        small = shown[known].assign(picture=[thumbnail(index) for index in shown.index])
        text = small.to_html(escape=False, float_format=lambda value: f"{value:.4g}")
        more = len(self) - len(shown)
        return text + (f"<p>and {more} more</p>" if more else "")


def load(folder: str | Path) -> Runs:
    """Returns the finished runs of a sweep's folder, or of any folder of runs.

    Raises:
      NstyleError: there is no such folder, or no run in it is finished.
    """
    path = Path(folder).expanduser()
    done = read(path).done
    if not done:
        raise NstyleError(f"{path}: none of its runs is finished")
    rows = []
    for member in done:
        result = member.result or {}
        settings = flat(result["config"])
        names = {f"{key}_file": _name(settings.get(key)) for key in ("content", "style")}
        settings = {
            name: literal(value) if isinstance(value, list) else value
            for name, value in settings.items()
        }
        best = {name: result["best"].get(term) for name, (term, _) in LOSSES.items()}
        rest = {"stop": result["stop"], "steps_done": result["steps"]}
        rest |= {"seconds": result.get("seconds"), "command": result.get("command", "")}
        rows.append(settings | names | member.scores | best | rest | {"folder": str(member.folder)})
    return Runs(pd.DataFrame(rows), path)


def _name(files: Any) -> str | None:
    """Returns the names of one file or several, without their folders."""
    several = files if isinstance(files, list) else [files]
    return ", ".join(Path(file).name for file in several if file) or None


def sweep(
    grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    experiment: str | None = None,
    launcher: str | None = None,
    config_dir: str | Path | None = None,
    **settings: Any,
) -> Runs:
    """Makes the runs of a sweep and returns them, in a process of its own that shows its progress.

    It is the command `nstyle -m`: all is checked before the first run starts, what is there is not
    made again, and after an interrupt the same call goes on.

    Args:
      grid: values of the settings that vary, each a sequence: every combination is a run.
      experiment: one of `configs/experiment`, or of `config_dir`; it says what varies.
      launcher: of Hydra, such as `processes`; None makes one run, or batch, after another.
      config_dir: a folder of YAML files and modules of one's own.
      **settings: of all runs, as `stylize` takes them; `pairs="twelve"`, `runs_dir="runs"` and
        `batch=4` too.

    Raises:
      NstyleError: one line that names what is wrong.
      KeyboardInterrupt: interrupted; the same call goes on.
    """
    arguments = [f"{key}={','.join(map(literal, values))}" for key, values in (grid or {}).items()]
    given = {"experiment": experiment, "hydra/launcher": launcher}
    arguments += [f"{key}={value}" for key, value in given.items() if value is not None]
    arguments += [f"{key}={literal(value)}" for key, value in settings.items()]
    own = [] if config_dir is None else ["--config-dir", str(config_dir)]
    command = [sys.executable, "-m", "nstyle", "-m", *own, *arguments]
    last = ""
    with tempfile.TemporaryFile("w+") as out:  # a pipe would be full before the end
        with subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True) as run:
            assert run.stderr is not None
            for line in run.stderr:
                print(last, end="", file=sys.stderr)
                last = line  # of a sweep that fails it is what is raised below
        out.seek(0)
        told = [line for line in out.read().splitlines() if line.startswith("sweep ")]
    last = last.rstrip("\n")
    if run.returncode == 130:
        raise KeyboardInterrupt(last.removeprefix("nstyle: "))
    if run.returncode:
        raise NstyleError(last.removeprefix("nstyle: "))
    if last:
        print(last, file=sys.stderr)
    return load(told[-1].split("  ")[0].removeprefix("sweep "))

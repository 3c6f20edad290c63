"""Makes a figure of the papers, or an experiment: a grid of runs, a labelled sheet, a table.

    python experiments/figure.py figure=figure1                   # small: minutes on two cores
    python experiments/figure.py figure=figure3 effort=full
    python experiments/figure.py figure=pooling content=photo.jpg style=art.jpg size=256 seeds=8

Figures are the YAML files in `experiments/configs/figure`. The folder `figures/NAME-EFFORT` gets
`sheet.png`, `losses.csv` (a row for each run: final losses, every term), what an analysis adds, and
the runs themselves; a run that is already there is not made again.
"""

import itertools
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import analyses
import hydra
import numpy as np
import pandas as pd
import skimage.data
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from nstyle import images
from nstyle.config import VERSION_BASE, compose
from nstyle.errors import NstyleError
from nstyle.files import write_atomic
from nstyle.runs.session import Performed, perform

HERE = Path(__file__).parent
ROOT = HERE.parent

Settings = dict[str, Any]


@dataclass
class Figure:
    """Schema of a figure; `rows`, `columns` and `cells` map names to settings of `nstyle`.

    Attributes:
      rows: a name for each row; with `seed_rows` a row for each seed instead.
      cells: row -> column -> settings, over those of row and column.
      analysis: a function of `analyses` to call with all cells.
    """

    name: str = MISSING
    effort: str = MISSING
    content: str | None = None
    style: str | None = None
    out: str = MISSING
    size: Any = MISSING
    steps: int = MISSING
    seeds: int = MISSING
    cell: int = MISSING
    seed_rows: bool = False
    analysis: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    cells: dict[str, Any] = field(default_factory=dict)


class Cell(NamedTuple):
    """A finished run, at its place in the grid."""

    row: str
    column: str
    settings: Settings
    run: Performed

    def picture(self) -> np.ndarray:
        """Returns the resulting picture."""
        return images.load(self.run.folder / "result.png")


def picture_files(config: DictConfig, out: Path) -> dict[str, str]:
    """Returns content and style: those given, or scikit-image's cup and this project's painting."""
    photograph = out / "photograph.png"
    if config.content is None and not photograph.is_file():
        images.save(photograph, skimage.data.coffee() / 255)
    painting = HERE / "demo" / "styles" / "swirls.jpg"
    return {"content": config.content or str(photograph), "style": config.style or str(painting)}


def grid(config: DictConfig, out: Path) -> list[tuple[str, str, Settings]]:
    """Returns row, column and settings of every cell, row by row."""
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    rows: Mapping[str, Settings] = plain["rows"]
    if config.seed_rows:
        rows = {f"seed {seed}": {"seed": seed} for seed in range(config.seeds)}
    base = {
        "size": config.size,
        "steps": config.steps,
        "recipe": "plain",  # one content layer, one size and plain L-BFGS, as in the papers
        "pyramid.levels": 1,
        "solver": "lbfgs",
        "runs_dir": str(out / "runs"),
    }
    cells = []
    for (row, of_row), (column, of_column) in itertools.product(
        rows.items(), plain["columns"].items()
    ):
        of_cell = plain["cells"].get(row, {}).get(column, {})
        settings = base | picture_files(config, out) | plain["settings"]
        settings = settings | of_row | of_column | of_cell
        for name in ("content", "style"):  # the project's own pictures, from any folder
            if settings[name] and (ROOT / settings[name]).is_file():
                settings[name] = str(ROOT / settings[name])
        cells.append((row, column, settings))
    return cells


def make(config: DictConfig) -> None:
    """Runs the grid and writes sheet, table and analysis."""
    out = Path(config.out)
    cells: list[Cell] = []
    shown: dict[str, dict[str, np.ndarray]] = {}
    places = grid(config, out)
    for number, (row, column, settings) in enumerate(places, start=1):
        name = " / ".join(filter(None, (row, column))).replace("\n", " ")
        print(f"{number}/{len(places)}  {name}", file=sys.stderr, flush=True)
        if "show" in settings:
            picture = images.load(settings[settings["show"]], config.cell)
        else:
            performed = perform(compose(scores=False, **settings))
            if performed.stop == "interrupted":
                raise KeyboardInterrupt
            cells.append(Cell(row, column, settings, performed))
            picture = cells[-1].picture()
        shown.setdefault(row, {})[column] = picture

    columns = list(dict.fromkeys(column for _, column, _ in places))
    pictures = [[shown[row].get(column) for column in columns] for row in shown]
    sheet = images.contact_sheet(pictures, columns, list(shown), config.cell)
    images.save(out / "sheet.png", sheet)
    places_of = {"row": lambda cell: cell.row, "column": lambda cell: cell.column}
    rows = [
        {key: place(cell).replace("\n", " ") for key, place in places_of.items()}
        | {"stop": cell.run.stop}
        | cell.run.best
        for cell in cells
    ]
    write_atomic(out / "losses.csv", pd.DataFrame(rows).to_csv(index=False).encode())
    print(f"sheet   {out / 'sheet.png'}\ntable   {out / 'losses.csv'}")
    if config.analysis:
        for path in getattr(analyses, config.analysis)(cells, out):
            print(f"{config.analysis:<7} {path}")


@hydra.main(config_path="configs", config_name="config", **VERSION_BASE)
def main(config: DictConfig) -> None:
    try:
        make(config)
    except NstyleError as error:
        sys.exit(f"figure: {error}")
    except KeyboardInterrupt:
        sys.exit("figure: interrupted; the runs made so far are kept, the same command goes on")


if __name__ == "__main__":
    ConfigStore.instance().store(name="schema", node=Figure)
    main()

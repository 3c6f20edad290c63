"""The command `nstyle inspect`: what each term of a finished run's loss does, and where.

It writes into the run's folder

    inspection.csv   for the result, and for the pictures that `save_every` kept, each term's loss,
                     its gradient's norm, and its share of each
    inspection.png   for each term where on the result its layer wants something changed, and which
                     pixels it moves; each map is over its own largest value
    sensitivity.csv  with `--sensitivity`, how much each score changes when a style layer's weight
                     doubles
"""

from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
from omegaconf import DictConfig

from nstyle import images
from nstyle.arrays import Image
from nstyle.config import run_settings, use_folder
from nstyle.errors import NstyleError
from nstyle.files import user_path, write_atomic
from nstyle.images.colour import grey, with_chrominance
from nstyle.objective.attribution import Part, parts
from nstyle.objective.sensitivity import STEPS, sensitivity
from nstyle.process.command import LineParser, run_command
from nstyle.process.progress import watched
from nstyle.runs import store, stored
from nstyle.runs.finished import scores_of
from nstyle.runs.job import Job, build
from nstyle.runs.planning import Plan, plan
from nstyle.runs.recording import pictured_steps

#: What it writes.
TABLE, SHEET, SENSITIVITY = store.INSPECTION

#: Longest side of a map, in pixels.
_CELL = 256

#: Of a map's values the share that is shown below white; the others would leave it dark.
_SHOWN = 0.995


def main() -> None:
    """Runs `nstyle inspect` and exits: 0 done, 2 wrong input, 130 interrupted."""
    run_command("nstyle inspect", _main)


def _main(arguments: list[str]) -> None:
    parser = LineParser("nstyle inspect", description="Says what each term of a run's loss does.")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    parser.add_argument("-cd", "--config-dir", type=Path, help="YAML files and modules of your own")
    parser.add_argument(
        "--sensitivity",
        action="store_true",
        help=f"also how scores depend on style layers' weights: {2 * STEPS} more steps a layer",
    )
    options = parser.parse_args(arguments)
    if options.config_dir is not None:
        use_folder(user_path("--config-dir", options.config_dir))
    for folder in watched(options.runs, "inspecting"):
        for path in inspect(user_path("run", folder), options.sensitivity):
            print(path)


def inspect(folder: Path, with_sensitivity: bool = False) -> list[Path]:
    """Says what each term of a finished run's loss does, and returns the files it wrote.

    Args:
      folder: of the run.
      with_sensitivity: also goes on from the result with other weights, see `sensitivity`.

    Raises:
      NstyleError: the run is not finished, its files or inputs are not what they were, or it was
        evaluated by tiles.
    """
    result = store.result(folder)
    if result is None:
        raise NstyleError(f"{folder}: there is no finished run in it")
    stored.check(folder, result["files"])
    config = run_settings(folder / "config.yaml")
    planned = plan(config)
    changed = [name for name, own in result["inputs"].items() if planned.digests.get(name) != own]
    if changed:
        raise NstyleError(f"{folder}: {changed[0]} is not what it was when the run was made")
    if planned.sizes[-1].tile is not None:
        raise NstyleError(f"{folder}: a run by tiles; its terms cannot be told apart")
    job = build(planned)
    pictures = {name: step for step, name in sorted(pictured_steps(result["files"]).items())} | {
        "result.png": result["best"]["step"]
    }
    found = {name: _parts(job, folder / name) for name in watched([*pictures], "evaluating")}
    table = pd.DataFrame(
        row for name, step in pictures.items() for row in _rows(name, step, found[name])
    )
    write_atomic(folder / TABLE, table.to_csv(index=False).encode())
    images.save(folder / SHEET, _sheet(images.load(folder / "result.png"), found["result.png"]))
    if not with_sensitivity:
        return [folder / TABLE, folder / SHEET]
    slopes = _sensitivity(config, planned, job, images.load(folder / "result.png"))
    write_atomic(folder / SENSITIVITY, slopes.to_csv(index=False).encode())
    return [folder / TABLE, folder / SHEET, folder / SENSITIVITY]


def _sensitivity(config: DictConfig, planned: Plan, job: Job, image: np.ndarray) -> pd.DataFrame:
    """Returns a row for each style layer: how much each score changes when its weight doubles."""
    white = job.structure.value_range

    def measure(picture: Image) -> dict[str, float]:
        shown = np.asarray(picture) / np.float32(white)
        if job.photograph is not None:
            shown = with_chrominance(shown, job.photograph)
        found = scores_of(config, planned, np.clip(shown, 0, 1))
        return {name: value for name, value in found.items() if value is not None}

    problem, start = job.stages[-1].problem, jnp.asarray(white * image)
    layers = [layer for layer, weight in problem.weights.style.items() if float(weight)]
    return pd.DataFrame(
        {"layer": layer} | sensitivity(job.structure, problem, start, job.solver, measure, layer)
        for layer in watched(layers, "going on")
    )


def _parts(job: Job, path: Path) -> dict[str, Part]:
    picture = jnp.asarray(job.structure.value_range * images.load(path))
    return parts(job.structure, picture, job.stages[-1].problem)


def _rows(name: str, step: int, own: dict[str, Part]) -> Iterator[dict[str, str | int | float]]:
    """Yields a row for each term of a picture."""
    norms = {term: float(np.linalg.norm(part.slope)) for term, part in own.items()}
    losses, lengths = sum(part.loss for part in own.values()), sum(norms.values())
    for term, part in own.items():
        yield {
            "picture": name,
            "step": step,
            "term": term,
            "loss": part.loss,
            "share_of_loss": part.loss / losses if losses else 0.0,
            "gradient_norm": norms[term],
            "share_of_gradient_norms": norms[term] / lengths if lengths else 0.0,
        }


def _sheet(picture: np.ndarray, own: dict[str, Part]) -> np.ndarray:
    """Returns the maps of each term over the result, in a row."""
    cells: list[list[np.ndarray | None]] = []
    names = []
    for term, part in own.items():
        pull = next(iter(part.pull.values()), None)
        pixels = np.linalg.norm(part.slope, axis=2)
        of_layer = None if pull is None else _over(picture, pull)
        cells.append([picture, of_layer, _over(picture, pixels)])
        names.append(term.replace("/", "\n"))
    columns = ["result", "where its layer\nwants a change", "which pixels\nit moves"]
    return images.contact_sheet(cells, columns, names, _CELL)


def _over(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns a map, warm where it is large, over a dark picture."""
    white = np.quantile(values, _SHOWN) or 1.0
    height, width = picture.shape[:2]
    shown = np.repeat(np.minimum(values / white, 1.0)[..., None], 3, axis=2).astype(np.float32)
    spread = images.resize(shown, width, height)[..., :1]
    dim = 0.35 * np.asarray(grey(picture))
    return dim + spread * (np.array([1.0, 0.75, 0.3], np.float32) - dim)

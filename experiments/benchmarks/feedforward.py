"""A trained network against the optimisation that it stands in for: losses reached, and seconds.

    python experiments/benchmarks/feedforward.py MODEL [pictures ...] --style art.jpg [--size 96]

Each picture, which the network should not have learnt from, is painted in one pass and by L-BFGS,
100 steps from the photograph and from noise, on the losses of the model's training (the comparison
of Johnson et al. 2016, figure 5). `step` is the first of the better one whose loss is at most the
network's. Compilation is not counted. Without pictures: Tübingen and scikit-image's chelsea.

Prints a table, and writes it with the machine as JSON where `--json FILE` is given, and the
pictures side by side where `--sheet FILE` is.
"""

import statistics
from pathlib import Path
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
import skimage.data
from omegaconf import DictConfig

from nstyle import images
from nstyle.config import compose
from nstyle.config.groups import known_keys
from nstyle.feedforward import models
from nstyle.feedforward.apply import painted_picture
from nstyle.feedforward.network import single_style
from nstyle.objective.problems import objective, prepare
from nstyle.objective.stages import transfer
from nstyle.runs.inputs import network_of, style_size
from nstyle.runs.planning import loss_weights, structure_of
from nstyle.solvers import Stopping

#: Passes that are timed.
PASSES = 9


def composed_again(settings: dict[str, Any]) -> DictConfig:
    """Returns the settings of a training's losses, of whose groups its card tells the names."""
    known = known_keys()
    chosen = {key: own for key, own in settings.items() if isinstance(own, dict)}
    plain = {key: value for key, value in settings.items() if key not in chosen}
    options = {
        f"{key}.{name}": value
        for key, own in chosen.items()
        for name, value in own.items()
        if f"{key}.{name}" in known
    }
    return compose(**plain, **{key: own["name"] for key, own in chosen.items()}, **options)


def main() -> None:
    parser = common.parser(__doc__, size=None)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path, nargs="*")
    parser.add_argument("--size", type=int, help="short side; that of the training unless given")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()

    model = models.read(options.model)
    trained = model.card["training"]["size"]
    settings = model.card["losses"]
    config = composed_again(settings)
    network = network_of(config)
    structure = structure_of(config, network.pixels)
    weights = loss_weights(config, structure)
    read_at = style_size(settings["style_size"], trained, (trained, trained, 3))
    style = images.load(options.style, read_at)
    evaluate = jax.jit(objective(structure))
    mixture = single_style(model.architecture)
    shipped = Path(skimage.data.__file__).parent / "chelsea.png"
    rows: dict[str, dict[str, Any]] = {}
    cells = []
    print(f"{'picture':16}{'start':>9}{'network':>9}{'L-BFGS':>9}{'noise':>9}", end="")
    print(f"{'ratio':>7}{'step':>6}{'seconds':>10}{'L-BFGS':>9}{'times':>7}")
    for file in options.pictures or [options.content, shipped]:
        content = images.load(file, options.size or trained, "short")
        problem = prepare(structure, network.params, weights, content, style)
        passes = [
            common.seconds_of(lambda: painted_picture(model, content, mixture))  # noqa: B023
            for _ in range(PASSES + 1)
        ]
        painted = painted_picture(model, content, mixture)
        found = [float(evaluate(jnp.asarray(x), problem)[0]) for x in (content, painted)]
        starts = {"photograph": content, "noise": np.random.default_rng(0).random(content.shape)}
        curves, seconds, ends = {}, {}, {}
        for name, start in starts.items():
            image = jnp.asarray(start, jnp.float32)
            for _ in transfer(structure, problem, image, stopping=Stopping(1)):
                pass
            taken = common.Curve()
            for step in transfer(structure, problem, image, stopping=Stopping(options.steps)):
                taken.add(step.best_value)
            curves[name] = [sample.loss for sample in taken.samples]
            seconds[name], ends[name] = taken.end().seconds, np.asarray(step.best_image())
        best = min(curves, key=lambda name: curves[name][-1])
        row: dict[str, Any] = {
            "photograph": found[0],
            "network": found[1],
            "lbfgs": {name: curve[-1] for name, curve in curves.items()},
            "ratio": found[1] / curves[best][-1],
            "equal_step": next(i for i, loss in enumerate(curves[best]) if loss <= found[1]),
            "seconds": statistics.median(passes[1:]),
            "lbfgs_seconds": seconds[best],
        }
        rows[file.name] = row
        row["times"] = row["lbfgs_seconds"] / row["seconds"]
        cells.append([content, painted, ends["photograph"], ends["noise"]])
        losses = "".join(f"{value:9.3f}" for value in (*found, *row["lbfgs"].values()))
        print(f"{file.stem:16}{losses}{row['ratio']:7.2f}{row['equal_step']:6}", end="")
        print(f"{row['seconds']:10.4f}{row['lbfgs_seconds']:9.2f}{row['times']:7.0f}", flush=True)
    if options.sheet is not None:
        columns = ["photograph", "one pass", f"L-BFGS, {options.steps} steps", "from noise"]
        sheet = images.contact_sheet(cells, columns)
        images.save(options.sheet, sheet, quality=85)
    common.write(options.json, {"steps": options.steps, "pictures": rows, "card": model.card})


if __name__ == "__main__":
    main()

"""The command `nstyle-train`: a training in its folder, from where an earlier process left it.

OUT/
    settings.json       all that decides the result
    trace.csv           the losses of every tenth step
    samples/            how it paints pictures that it never learns from
    checkpoints/        where an unfinished training goes on, the newest two
    model.safetensors   the network with its card
    card.json           the card alone, to read, and the hash of the model; written last
"""

import functools
import math
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import DictConfig

from nstyle import __version__, images
from nstyle.config import (
    combinations,
    compose_training,
    folder_name,
    read,
    record,
    to_yaml,
    use_folder,
)
from nstyle.errors import NstyleError
from nstyle.feedforward import data, models
from nstyle.feedforward.checkpoints import Checkpoints, Lowest, tell
from nstyle.feedforward.network import paint, single_style
from nstyle.feedforward.planning import Plan, loss_settings, plan
from nstyle.feedforward.resolution import enlarged
from nstyle.feedforward.training import (
    Spread,
    State,
    compile_step,
    initial_state,
    network_input,
    perceptual_loss,
    spread,
)
from nstyle.files import Json, remove_half_written, user_path
from nstyle.objective import Terms
from nstyle.process.command import LineParser, run_command
from nstyle.process.interrupts import check, handled, uninterrupted
from nstyle.process.progress import RunProgress
from nstyle.runs import store, stored
from nstyle.runs.resources import keep_compiled, limit_threads
from nstyle.runs.tracking import Tracking
from nstyle.scores import fidelity
from nstyle.trackers import Tracker

HELP = """\
nstyle-train: a network that paints in one pass, trained on the losses of nstyle

    nstyle-train style=art.jpg images=FOLDER out=MODEL
    nstyle-train upscale=4 images=FOLDER out=MODEL

  pictures   style=FILE | style=[A,B]     one network paints them all, and mixtures of them
             images=FOLDER | ZIP | TAR    photographs to learn from; without it, the few that come
                                          with scikit-image
             out=FOLDER                   the same command goes on with what is there
  effort     size=256 batch_size=4 steps=40000 learning_rate=1e-3
  network    width=32 blocks=5 upsampling=resize | transposed border=reflect | zeros
             upscale=4 | 8                no style: it makes pictures so many times as large
  losses     those of nstyle: recipe, style_weight, style_layers, style_loss, precision, ...

All settings and their values:   nstyle-train --cfg
Several trainings:               nstyle-train -m seed=0,1 style_weight=5,10 ... out=FOLDER
Recipes of your own, in YAML:    nstyle-train --config-dir FOLDER recipe=NAME ...
"""

#: Steps between the rows of the trace; each of the first ones has a row.
_ROW_EVERY = 10

#: Steps at whose end a picture of how it paints is made, besides every `sample_every`.
_EARLY_SAMPLES = (1, 10)

#: Pictures and styles in a sample.
_SAMPLES = 4


def main() -> None:
    """Runs `nstyle-train` and exits: 0 done, 2 wrong input, 130 interrupted."""
    run_command("nstyle-train", _main)


def _main(arguments: list[str]) -> None:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return
    parser = LineParser("nstyle-train", add_help=False, allow_abbrev=False)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("-m", "--multirun", action="store_true")
    mode.add_argument("--cfg", action="store_true")
    parser.add_argument("-cd", "--config-dir", type=Path)
    options, settings = parser.parse_known_args(arguments)
    own = options.config_dir
    use_folder(None if own is None else user_path("--config-dir", own))
    if options.multirun:
        _train_each(settings)
        return
    training, losses = compose_training(settings)
    if options.cfg:
        print(to_yaml(training) + to_yaml(loss_settings(losses)), end="")
        return
    print(train(training, losses))


def _train_each(arguments: list[str]) -> None:
    """Trains a network for every combination of values, each in a folder of its own in `out`.

    All are checked before the first one starts; the same command goes on after an interrupt.
    """
    jobs = [(folder_name(swept), job) for swept, job in combinations(read(arguments))]
    names = [name for name, _ in jobs]
    if len(set(names)) < len(names):
        raise NstyleError("style: two of the values have one name, so that folders would be shared")
    checked = []
    for name, job in jobs:
        training, losses = compose_training(job)
        if training.out is not None:
            training.out = str(Path(training.out) / name)
        checked.append((training, *_checked(training, losses)))
    for number, (training, planned, places) in enumerate(checked, 1):
        print(f"training {number} of {len(checked)}: {training.out}", file=sys.stderr)
        print(_made_once(training, planned, places))


def train(training: DictConfig, losses: DictConfig) -> Path:
    """Trains a network, or goes on with what is in its folder.

    Args:
      training: settings with the names of `config.TrainConfig`.
      losses: those of its losses; see `config.compose_training`.

    Returns:
      The model's file.

    Raises:
      NstyleError: one line that names what is wrong.
      KeyboardInterrupt: interrupted; a checkpoint is written.
    """
    return _made_once(training, *_checked(training, losses))


def _checked(training: DictConfig, losses: DictConfig) -> tuple[Plan, Spread]:
    """Returns the plan of a training, and the devices that it is spread over."""
    if training.out is None:
        raise NstyleError("out: no folder given; add out=FOLDER")
    _check_outside(training)
    limit_threads(training.threads)
    keep_compiled()
    places = spread(jax.local_devices(), training.batch_size)
    return plan(training, losses), places


def _made_once(training: DictConfig, planned: Plan, places: Spread) -> Path:
    """Trains a network unless it is there, and returns the model's file."""
    out = user_path("out", training.out)
    model = out / models.FILE
    with store.held(out / ".lock", f"nstyle-train: another process works on {out}; waiting for it"):
        _check_same(out, planned.settings)
        if _made(out, planned.identity):
            return model
        for folder in (out, out / "checkpoints"):
            remove_half_written(folder)
        stored.write_json(out / "settings.json", "training", planned.settings)
        state, seconds = _trained(planned, training, out, places)
        card = _card(planned, state, seconds)
        params = jax.tree.map(np.asarray, state.params)
        models.write(model, models.Model(planned.recipe.architecture, params, card))
        card["files"] = {models.FILE: stored.digest(model)}
        stored.write_json(out / "card.json", f"card {planned.identity}", card)
    return model


def _made(out: Path, identity: str) -> bool:
    """Says whether a folder has the model that its training ended with; notes what is damaged."""
    try:
        card = stored.read_json(out / "card.json", f"card {identity}")
        if card is not None:
            stored.check(out, card["files"])
    except stored.DamagedError as error:
        tell(f"{error}; the model is made again")
        return False
    return card is not None


def _check_outside(training: DictConfig) -> None:
    """Refuses a folder among the pictures, which would learn from its own samples."""
    if training.images is None:
        return
    out, images = (user_path(key, training[key]).resolve() for key in ("out", "images"))
    if out.is_relative_to(images):
        raise NstyleError(f"out: {training.out} lies among the images; choose another folder")


def _check_same(out: Path, settings: Json) -> None:
    """Refuses a folder with a training of other settings, or of settings that it does not tell."""
    path = out / "settings.json"
    try:
        there = stored.read_json(path, "training")
    except stored.DamagedError as error:
        raise NstyleError(f"out: {error}, or not of a training; choose another folder") from error
    if there is None:
        if any((out / name).exists() for name in ("card.json", "checkpoints")):
            raise NstyleError(f"out: {path} is missing; choose another folder")
        return
    for group, value in settings.items():
        if there.get(group) == value:
            continue
        changed = [group]
        if isinstance(value, dict):  # a setting that came later was null before
            own = there[group]
            changed = [f"{key}={own.get(key)!r}" for key in value if own.get(key) != value[key]]
        if changed:
            raise NstyleError(
                f"out: {path.parent} has a training with another {changed[0]};"
                " choose another folder"
            )


def _trained(planned: Plan, training: DictConfig, out: Path, places: Spread) -> tuple[State, float]:
    """Returns the state after the last step, and the seconds that this process took."""
    recipe, pictures = planned.recipe, planned.pictures
    goal = jax.device_put(planned.goal, places.copies)
    step = compile_step(recipe)
    kept = Checkpoints(out / "checkpoints", planned.identity, training.checkpoint_every)
    with handled():
        state, rows = kept.latest(initial_state(recipe, training.seed))
        state = jax.device_put(state, places.copies)
        first = int(state.step)
        lowest = Lowest(rows)
        began = time.monotonic()
        batches = data.batches(pictures, training.size, training.batch_size, training.seed, first)
        with (
            store.Trace(out / "trace.csv", rows) as trace,
            RunProgress(recipe.steps, (first,)) as progress,
            Tracking(record(training, Tracker)) as tracking,
        ):
            tracking.begin(planned.followed(out, first and first + 1), recipe.steps)
            try:
                for number in range(first + 1, recipe.steps + 1):
                    check()
                    batch = jax.device_put(_floats(next(batches)), places.parts)
                    styles = _styles(number - 1, training.batch_size, recipe.architecture.styles)
                    following, loss, terms = step(
                        state, goal, batch, jax.device_put(styles, places.parts)
                    )
                    if number <= _ROW_EVERY or number % _ROW_EVERY == 0 or number == recipe.steps:
                        row = _row(number, loss, terms, planned)
                        lowest.look(row["loss"], state)
                        if lowest.collapsed and not math.isfinite(row["loss"]):
                            break
                        trace.append(row)
                        progress.update(row)
                        tracking.add(row, functools.partial(_sample, planned, following))
                    if _sampled(number, training.sample_every):
                        images.save(
                            out / "samples" / f"step_{number:06}.png", _sample(planned, following)
                        )
                    state = following  # with its row in the trace, wherever an interrupt comes
                    kept.write_if_due(state, trace.rows)
                kept.write(state, trace.rows)  # the card is still to be made
            except KeyboardInterrupt as interrupt:
                with uninterrupted():
                    kept.write(state, trace.rows)
                raise KeyboardInterrupt(
                    f"interrupted after step {int(state.step)}; the same command goes on from here"
                ) from interrupt
    if lowest.collapsed and lowest.state is not None:
        state = lowest.state
        tell(
            f"the loss rose from {lowest.loss:.4g} to {lowest.now:.4g}: the network of step"
            f" {int(state.step)} is kept; try a smaller learning_rate"
        )
    return state, time.monotonic() - began


def _floats(batch: np.ndarray) -> np.ndarray:
    return batch.astype(np.float32) / np.float32(255)


def _styles(step: int, batch_size: int, styles: int) -> np.ndarray:
    """Returns the style of each picture of a step: all of them in turn."""
    return ((step * batch_size + np.arange(batch_size)) % styles).astype(np.int32)


def _sampled(step: int, every: int) -> bool:
    return every > 0 and (step in _EARLY_SAMPLES or step % every == 0)


def _row(step: int, loss: Any, terms: Terms, planned: Plan) -> store.Row:
    """Returns a step as a row of the trace: `content`, `style` and `tv` are weighted."""
    weights = planned.goal.weights
    if step == 1 and not math.isfinite(loss):
        raise NstyleError("the loss is not finite at step 1: a weight is too large")
    return {
        "step": step,
        "loss": float(loss),
        **{
            name: sum(float(own[layer]) * float(value) for layer, value in by_layer.items())
            for name, own, by_layer in (
                ("content", weights.content, terms.content),
                ("style", weights.style, terms.style),
            )
        },
        "tv": float(weights.tv) * float(terms.tv),
    }


_paint = jax.jit(paint, static_argnums=(0, 4))


def _sample(planned: Plan, state: State) -> np.ndarray:
    """Returns what the network makes of some of the pictures held out.

    A column for each style; or a picture enlarged by a cubic, by the network, and the original.
    """
    architecture = planned.recipe.architecture
    precision = planned.recipe.structure.precision
    photographs = jnp.asarray(planned.held_out[:_SAMPLES])
    given = network_input(architecture, photographs)
    columns = [photographs]
    for style in range(min(architecture.styles, _SAMPLES)):
        mixtures = np.tile(single_style(architecture, style), (len(photographs), 1))
        columns.append(_paint(architecture, state.params, given, mixtures, precision))
    names = ["photograph", *(style["file"] for style in planned.styles[:_SAMPLES])]
    if architecture.upscale:
        columns = [enlarged(given, architecture.upscale), columns[1], photographs]
        names = ["bicubic", "network", "original"]
    painted = (np.nan_to_num(column) for column in columns)  # of a network that collapsed
    cells = [list(row) for row in zip(*painted, strict=True)]
    return images.contact_sheet(cells, names, cell=planned.held_out.shape[1])


def _card(planned: Plan, state: State, seconds: float) -> Json:
    """Returns what is to be known of a model: styles, recipe, data, scores."""
    recipe, pictures = planned.recipe, planned.pictures
    loss = jax.jit(perceptual_loss, static_argnums=0)
    scores = [
        float(np.mean([
            loss(recipe, state.params, planned.goal, picture[None], jnp.array([style]))[0]
            for picture in planned.held_out
        ]))
        for style in range(recipe.architecture.styles)
    ]  # fmt: skip
    return {
        "nstyle": __version__,
        "styles": planned.styles,
        "training": planned.settings["training"],
        "steps": int(state.step),
        "losses": planned.losses,
        "references": jax.tree.map(
            lambda values: np.asarray(values).tolist(), planned.goal.references
        ),
        "data": {
            "name": pictures.name,
            "files": len(pictures.files),
            "held_out": list(pictures.held_out),
            "unreadable": len(pictures.unreadable),
            "digest": planned.settings["images"],
        },
        "scores": {"loss_held_out": scores} | _fidelities(planned, state),
        "seconds": round(seconds, 1),
        "environment": store.environment(),
    }


def _fidelities(planned: Plan, state: State) -> dict[str, dict[str, float]]:
    """Returns `scores.fidelity` of pictures held out, means over them; empty of a painting network.

    Of `network` and of `bicubic`, where each picture is reduced and then enlarged again.
    """
    architecture, precision = planned.recipe.architecture, planned.recipe.structure.precision
    if not architecture.upscale:
        return {}
    found: dict[str, list[dict[str, float]]] = {"network": [], "bicubic": []}
    for picture in planned.held_out:
        given = network_input(architecture, jnp.asarray(picture[None]))
        mixture = single_style(architecture)[None]
        made = _paint(architecture, state.params, given, mixture, precision)
        for name, result in (("network", made), ("bicubic", enlarged(given, architecture.upscale))):
            found[name].append(fidelity(np.asarray(result[0]), picture))
    return {
        name: {key: float(np.mean([score[key] for score in scores])) for key in ("psnr", "ssim")}
        for name, scores in found.items()
    }

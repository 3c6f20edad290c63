"""The call from Python: pictures and settings in, a picture and its trace out."""

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nstyle import images
from nstyle.config import OUTPUT_KEYS, compose, use_folder
from nstyle.errors import NstyleError
from nstyle.process.progress import RunProgress, losses
from nstyle.runs.job import Job, build, picture_of, run
from nstyle.runs.notebook import Growing, in_notebook, page
from nstyle.runs.planning import plan
from nstyle.runs.resources import linear_algebra_by_one
from nstyle.runs.trace import row
from nstyle.solvers import STOPS


class Stylized(NamedTuple):
    """What `stylize` returns.

    Attributes:
      image: the picture of the lowest loss, float32 (height, width, 3), RGB clipped to [0, 1].
      trace: a row for every step, see `row`; `pandas.DataFrame(trace)` makes a table of it.
      loss: the lowest loss.
      stop: why the run ended, a key of `solvers.STOPS`.
    """

    image: np.ndarray
    trace: list[dict[str, float | int]]
    loss: float
    stop: str

    def __repr__(self) -> str:
        """Returns one short line."""
        return (
            f"Stylized(image={self.image.dtype} {self.image.shape}, steps={len(self.trace) - 1},"
            f" loss={self.loss:.4g}, stop={self.stop!r})"
        )

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: the picture, a line of numbers, the curve of the loss."""
        best = min(self.trace, key=lambda row: row["loss"])
        line = (
            f"{losses(best)} at step {best['step']} of {len(self.trace) - 1} ({STOPS[self.stop]})"
        )
        return page(self.image, line, [row["loss"] for row in self.trace])


def stylize(
    content: str | Path | ArrayLike | None = None,
    style: str | Path | ArrayLike | Sequence[str | Path | ArrayLike] | None = None,
    *,
    config_dir: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> Stylized:
    """Makes a picture with the content of one picture in the style of another.

    In a notebook the picture is shown as it grows, and an interrupt returns the best one so far.

    Args:
      content: file, picture of Pillow, or array (height, width, 3): floats in [0, 1] or uint8.
      style: likewise; or several, all files or all pictures and arrays.
      config_dir: a folder with recipes and other YAML files of your own, for this process.
      progress: whether to show steps and losses, in a notebook or on standard error.
      **settings: as on the command line: `size=256, steps=100, recipe="momo", pooling="max",
        style_layers=["conv1_1", "conv2_1"]`. `"solver.history_size": 20` sets a value in a group.

    Raises:
      NstyleError: one line that names what is wrong.
    """
    pictures: dict[str, np.ndarray | Sequence[np.ndarray]] = {}
    for name, given in (("content", content), ("style", style)):
        if given is None:
            continue
        several = list(given) if isinstance(given, list | tuple) else [given]
        if name == "content" and len(several) != 1:
            raise NstyleError(f"content: one picture, not {len(several)} (call stylize for each)")
        if all(isinstance(picture, str | Path) for picture in several):
            files = [str(picture) for picture in several]
            settings[name] = files if len(files) > 1 else files[0]
        elif all(
            hasattr(picture, "__array__") or hasattr(picture, "__array_interface__")
            for picture in several
        ):
            pictures[name] = [_checked_array(name, picture) for picture in several]
        else:
            kinds = ", ".join(type(picture).__name__ for picture in several)
            raise NstyleError(f"{name}: files or arrays are needed, not {kinds}")
    for name in OUTPUT_KEYS:
        if name in settings:
            raise NstyleError(f"{name}: stylize writes no files; see nstyle.runs.session.perform")
    if config_dir is not None:
        use_folder(Path(config_dir).expanduser())
    planned = plan(compose(**settings), pictures)
    for note in planned.notes:
        warnings.warn(note, stacklevel=2)
    with linear_algebra_by_one():
        return _made(build(planned), progress)


def _made(job: Job, progress: bool) -> Stylized:
    """Runs a job; in a notebook an interrupt ends it with what there is."""
    notebook = in_notebook()
    trace: list[dict[str, float | int]] = []
    with ExitStack() as around:
        growing = around.enter_context(Growing(job.steps)) if progress and notebook else None
        lines = around.enter_context(RunProgress(job.steps)) if progress and not notebook else None
        try:
            for step in run(job):
                trace.append(row(step, job))
                if growing:
                    growing.update(trace[-1], partial(picture_of, step, job))
                elif lines:
                    lines.update(trace[-1])
            stop = step.stop
        except KeyboardInterrupt:
            if not (notebook and trace):
                raise
            stop = "interrupted"
    return Stylized(np.clip(picture_of(step, job), 0, 1), trace, step.best_value, stop)


def _checked_array(name: str, given: Any) -> np.ndarray:
    picture = images.of_pillow(given, name)
    if picture is None:
        picture = np.asarray(given)
    if picture.dtype == np.uint8:
        picture = picture / np.float32(255)
    if picture.ndim != 3 or picture.shape[-1] != 3 or not picture.size:
        raise NstyleError(f"{name}: an array of shape (height, width, 3), not {picture.shape}")
    if picture.dtype.kind != "f" or not np.isfinite(picture).all():
        raise NstyleError(
            f"{name}: floats from 0 to 1 or uint8 are needed, not {picture.dtype} as given"
        )
    if picture.min() < 0 or picture.max() > 1:
        raise NstyleError(
            f"{name}: values from 0 to 1 are needed, not {picture.min():g} to {picture.max():g}"
        )
    return picture.astype(np.float32)

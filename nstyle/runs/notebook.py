"""What a notebook shows: a picture as it grows, and a result."""

import html
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from nstyle import images
from nstyle.process.progress import losses

#: Longest side of a picture that is shown, in pixels; the width and height of a curve.
_SIDE, _CURVE = 384, (384, 72)

#: Seconds between two pictures of one that grows.
_SECONDS = 1.0


def in_notebook() -> bool:
    """Says whether this is a cell of a notebook, where pages are shown."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def page(image: np.ndarray, line: str, values: Sequence[float] = ()) -> str:
    """Returns a picture, a line below it, and the curve of losses, as HTML.

    Args:
      image: float (height, width, 3) in [0, 1].
      line: what is said of it.
      values: the loss of each step; drawn by their logarithms where all are above zero.
    """
    picture = f'<img src="{images.data_uri(image, _SIDE)}" alt="">'
    return f"<div>{picture}<br><code>{html.escape(line)}</code>{_curve(values)}</div>"


def _curve(values: Sequence[float]) -> str:
    heights = np.asarray(values, float)
    if len(heights) < 2 or not np.isfinite(heights).all():
        return ""
    heights = np.log(heights) if heights.min() > 0 else heights
    width, height = _CURVE
    x = np.linspace(2, width - 2, len(heights))
    y = 2 + (height - 4) * (heights.max() - heights) / (np.ptp(heights) or 1.0)
    points = " ".join(f"{px:.1f},{py:.1f}" for px, py in zip(x, y, strict=True))
    return (
        f'<br><svg width="{width}" height="{height}" role="img" aria-label="loss by step (log)">'
        f'<polyline points="{points}" fill="none" stroke="currentColor"/></svg>'
    )


class Growing:
    """Shows a picture in a cell while it grows, as a context manager; takes it away at the end.

    Args:
      steps: of the run.
    """

    def __init__(self, steps: int) -> None:
        self._steps, self._shown = steps, time.monotonic()
        self._handle: Any = None

    def update(self, row: Mapping[str, float | int], picture: Callable[[], np.ndarray]) -> None:
        """Shows a step now and then.

        Args:
          row: of the run's trace.
          picture: () -> the best one so far.
        """
        if time.monotonic() - self._shown >= _SECONDS:
            line = f"step {row['step']}/{self._steps}  {losses(row)}"
            self._show(page(np.clip(picture(), 0, 1), line))
            self._shown = time.monotonic()

    def _show(self, text: str) -> None:
        from IPython.display import HTML

        self._handle.update(HTML(text))

    def __enter__(self) -> Self:
        from IPython.display import HTML, display

        self._handle = display(HTML("<code>compiling</code>"), display_id=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._show("")

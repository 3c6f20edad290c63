"""What a score is: how a finished picture compares with its photograph or its painting."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nstyle import images
from nstyle.errors import NstyleError
from nstyle.records import Record

#: Float (height, width, 3), RGB; values outside [0, 1] are clipped.
Picture = np.ndarray


@dataclass(frozen=True)
class Score(Record):
    """A score of a finished picture, by what was not optimised.

    Attributes:
      label: a few words for tables and charts.
      meaning: a line that says what it is, and which direction is better.
      against: whether it compares with the photograph, `content`, or with the painting, `style`.
      higher_is_better: the direction.
      judge: the network that it sees by, a key of `networks.NETWORKS`; None by none.
    """

    group = "score"
    against: ClassVar[Literal["content", "style"]] = "style"
    higher_is_better: ClassVar[bool] = False

    @property
    def judge(self) -> str | None:
        """See the class."""
        return None

    @property
    def label(self) -> str:
        """See the class."""
        return self.name

    @property
    def meaning(self) -> str:
        """See the class."""
        return f"{self.name}; {'higher' if self.higher_is_better else 'lower'} is better"

    def __call__(self, image: Picture, other: Picture) -> float:
        """Returns the score of a picture; NaN where it is too small or too large for it.

        Args:
          image: the result.
          other: the photograph or the painting, of any size.

        Raises:
          NstyleError: a picture is of another type or shape, or has values that are not finite.
        """
        raise NotImplementedError

    def try_out(self) -> None:
        """Refuses a score that breaks this contract on an example, with `NstyleError`."""
        image, other = np.random.default_rng(0).random((2, 32, 40, 3)).astype(np.float32)
        for pair in ((image, other), (image, image)):
            value = self(*pair)
            if not isinstance(value, float | int | np.floating):
                raise NstyleError(f"it gives {type(value).__name__}, and is to give a float")


def checked(picture: Picture) -> Picture:
    """Returns a picture as float32 in [0, 1].

    Raises:
      NstyleError: it is of another type or shape, or has values that are not finite.
    """
    array = np.asarray(picture)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype.kind != "f":
        raise NstyleError(
            f"score: a picture is float (height, width, 3), not {array.dtype} {array.shape}"
        )
    if not np.isfinite(array).all():
        raise NstyleError("score: the picture has values that are not finite")
    return np.clip(array, 0, 1).astype(np.float32)


def alike(image: Picture, other: Picture) -> tuple[Picture, Picture]:
    """Returns both as `checked` does, the other one scaled to the shape of the first."""
    image, other = checked(image), checked(other)
    if other.shape != image.shape:
        other = images.resize(other, image.shape[1], image.shape[0])
    return image, other

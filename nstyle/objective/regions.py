"""Label pictures: which region of the result takes its style from which part of which painting.

Each distinct colour of a label picture is a region. Regions of one colour belong together: the
positions of the result that the content's labels give this colour are compared with those of the
style pictures that their labels give it (guided Gram matrices: Gatys et al. 2017, arXiv 1611.07865,
section 4). All of this is NumPy, done once before a run.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter

from nstyle import images
from nstyle.errors import NstyleError
from nstyle.networks import windows

#: Most colours of a label picture; more are a photograph, or the blur of a JPEG.
MOST_REGIONS = 16

#: Steps of a channel, of 255, to which colours of two label pictures are the same: those of a wide
#: profile, in 8 bits, do not become those of sRGB more exactly.
_SAME = 8

#: What a region covers of each pixel, from 0 to 1.
Coverage = Float[np.ndarray, "h w"]


@dataclass(frozen=True)
class Labels:
    """A label picture, known by the hash of its values.

    Attributes:
      colours: of its regions, as `#rrggbb`.
      digest: of the picture.
      numbers: of the region of every pixel.
    """

    colours: tuple[str, ...]
    digest: str
    numbers: UInt8[np.ndarray, "h w"] = field(compare=False, repr=False)

    @classmethod
    def of(cls, name: str, picture: Float[np.ndarray, "h w 3"]) -> Self:
        """Returns the labels of a picture in [0, 1].

        Raises:
          NstyleError: it has more than `MOST_REGIONS` colours; the line begins with `name`.
        """
        channels = np.round(255 * picture).astype(np.uint32)
        packed = channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]
        found, numbers = np.unique(packed, return_inverse=True)
        if len(found) > MOST_REGIONS:
            raise NstyleError(
                f"{name}: {len(found)} colours, a label picture has at most {MOST_REGIONS} (one for"
                " each region; save it as PNG, without soft edges)"
            )
        return cls(
            tuple(f"#{colour:06x}" for colour in found),
            hashlib.sha256(packed.tobytes()).hexdigest(),
            numbers.reshape(packed.shape).astype(np.uint8),
        )

    @classmethod
    def plain(cls, colour: str) -> Self:
        """Returns the labels of a picture that is all of one colour, `#rrggbb`."""
        return cls((colour,), colour, np.zeros((1, 1), np.uint8))

    def named_as(self, other: Self) -> Self:
        """Returns these labels with another picture's colours where theirs are the same."""
        own, others = (
            np.array([tuple(bytes.fromhex(colour[1:])) for colour in labels.colours], int)
            for labels in (self, other)
        )
        colours = list(self.colours)
        for number, steps in enumerate(np.abs(own[:, None] - others).max(axis=2)):
            same = other.colours[steps.argmin()]
            if steps.min() <= _SAME and same not in colours:
                colours[number] = same
        return dataclasses.replace(self, colours=tuple(colours))

    @property
    def areas(self) -> tuple[float, ...]:
        """The share of the picture that each region has."""
        counts = np.bincount(self.numbers.ravel(), minlength=len(self.colours))
        return tuple((counts / self.numbers.size).tolist())


@dataclass(frozen=True)
class Guide:
    """The regions of the result, and those of each style picture that they take their style from.

    Attributes:
      content: the labels of the result.
      styles: of each style picture; None for a picture that serves every region as a whole.
      softness: standard deviation of the Gaussian that softens edges, in pixels of the result.

    Raises:
      NstyleError: a region of the content has no style, or a style picture serves no region.
    """

    content: Labels
    styles: tuple[Labels | None, ...]
    softness: float = 0.0

    def __post_init__(self) -> None:
        served = {region for style in range(len(self.styles)) for region in self.served(style)}
        lacking = [c for i, c in enumerate(self.content.colours) if i not in served]
        if lacking:
            raise NstyleError(
                f"style_mask: no style picture has the region {lacking[0]} of content_mask"
                f" (it has {_listed(self.styles)})"
            )
        for number, labels in enumerate(self.styles):
            if labels is not None and not self.served(number):
                raise NstyleError(
                    f"style_mask: content_mask has none of the regions {_listed([labels])} of style"
                    f" picture {number + 1} (it has {_listed([self.content])})"
                )

    def served(self, style: int) -> tuple[int, ...]:
        """Returns the numbers of the content's regions that a style picture serves."""
        labels, colours = self.styles[style], self.content.colours
        return tuple(i for i, c in enumerate(colours) if labels is None or c in labels.colours)

    def is_whole(self, style: int) -> bool:
        """Says whether a style picture serves its regions as a whole."""
        labels = self.styles[style]
        return labels is None or len(labels.colours) == 1

    @property
    def regions(self) -> tuple[int, ...]:
        """The content's region of each target, style picture after style picture."""
        return tuple(r for style in range(len(self.styles)) for r in self.served(style))

    def blend(self, shares: Sequence[float]) -> tuple[float, ...]:
        """Returns the share of each target in the style term, together 1.

        A region counts by its area, so that no part of the picture is pulled at more than another,
        and the styles that serve it share that.

        Args:
          shares: of the style pictures.

        Raises:
          NstyleError: the shares of the styles of a region are all 0.
        """
        areas = self.content.areas
        totals = [
            sum(shares[style] for style in range(len(self.styles)) if region in self.served(style))
            for region in range(len(areas))
        ]
        for colour, total in zip(self.content.colours, totals, strict=True):
            if not total:
                raise NstyleError(f"style_blend: every style of region {colour} has a share of 0")
        return tuple(
            areas[region] * shares[style] / totals[region]
            for style in range(len(self.styles))
            for region in self.served(style)
        )

    def unseen(
        self,
        shape: tuple[int, ...],
        style_shapes: Sequence[tuple[int, ...]],
        layers: Sequence[str],
        network: str,
    ) -> str | None:
        """Returns which region covers less than a position of a layer; None if all are seen.

        Args:
          shape: height and width of the result.
          style_shapes: of the style pictures.
          layers: canonical names.
          network: whose layers they are.
        """
        every = tuple(range(len(self.content.colours)))
        pictures = [("content_mask", self.content, every, shape)]
        for number, (labels, own) in enumerate(zip(self.styles, style_shapes, strict=True)):
            if labels is not None:
                pictures.append(("style_mask", labels, self.served(number), own))
        for name, labels, regions, own in pictures:
            colours = [self.content.colours[region] for region in regions]
            for layer in layers:
                seen = [pooled(part, layer, network) for part in coverage(labels, colours, own)]
                for colour, part in zip(colours, seen, strict=True):
                    if part.sum() < 1:
                        return (
                            f"{name}: region {colour} is too small at {own[1]} x {own[0]} pixels:"
                            f" it covers less than one position of {layer}"
                        )
        return None

    def of_content(
        self, shape: tuple[int, ...], layers: Sequence[str], network: str, scale: float = 1.0
    ) -> dict[str, np.ndarray]:
        """Returns `objective.Problem.guidance` for a result of some height and width.

        Args:
          shape: of the result.
          layers: canonical names.
          network: whose layers they are.
          scale: what the softness is multiplied by, for smaller sizes of the result.
        """
        softness = scale * self.softness
        return guidance(self.content, self.content.colours, shape, layers, network, softness)

    def of_style(
        self,
        style: int,
        shape: tuple[int, ...],
        layers: Sequence[str],
        network: str,
        scale: float = 1.0,
    ) -> dict[str, np.ndarray]:
        """Returns the same for the regions of a style picture that are served."""
        labels = self.styles[style]
        assert labels is not None, "a picture that serves as a whole has no guidance"
        colours = [self.content.colours[region] for region in self.served(style)]
        return guidance(labels, colours, shape, layers, network, scale * self.softness)


def _listed(labels: Sequence[Labels | None]) -> str:
    return ", ".join(dict.fromkeys(c for own in labels if own is not None for c in own.colours))


def guidance(
    labels: Labels,
    colours: Sequence[str],
    shape: tuple[int, ...],
    layers: Sequence[str],
    network: str,
    softness: float,
) -> dict[str, np.ndarray]:
    """Returns T^2 over its sum for every layer and region: float32 (regions, h, w), sums of 1.

    T is what a region covers of a position of the layer (equation 5 of Gatys et al. 2017).
    """
    parts = coverage(labels, colours, shape, softness)
    found = {}
    for layer in layers:
        squares = np.square([pooled(part, layer, network) for part in parts])
        found[layer] = (squares / squares.sum(axis=(1, 2), keepdims=True)).astype(np.float32)
    return found


def coverage(
    labels: Labels, colours: Sequence[str], shape: tuple[int, ...], softness: float = 0.0
) -> list[Coverage]:
    """Returns what regions cover of each pixel of a picture; all of its regions sum to 1.

    Args:
      labels: of any size.
      colours: of the regions.
      shape: height and width.
      softness: standard deviation of a Gaussian in pixels; 0 leaves edges as they are.
    """
    numbers = [labels.colours.index(colour) for colour in colours]
    hard = ((labels.numbers == number).astype(np.float32) for number in numbers)
    parts = [images.area_average(part, shape[1], shape[0]) for part in hard]
    return [gaussian_filter(part, softness, mode="nearest") if softness else part for part in parts]


def pooled(plane: Float[np.ndarray, "h w"], layer: str, network: str) -> np.ndarray:
    """Returns the mean of a plane over the pixels of each position of a layer.

    By the windows of pools and of convolutions that go by steps; others do not blur it.
    """
    for edge, step, padding in windows(layer, network):
        if min(plane.shape) + 2 * padding < edge:
            return np.zeros((0, 0))
        if step > 1:
            padded = np.pad(plane, padding, mode="edge")
            seen = np.lib.stride_tricks.sliding_window_view(padded, (edge, edge))[::step, ::step]
            plane = seen.mean(axis=(2, 3), dtype=np.float64)
    return plane

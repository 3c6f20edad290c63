"""Names and types of all settings; values live in the YAML files under `configs/`."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from nstyle.files import Json


@dataclass
class NoiseConfig:
    """See `objective.Noise`."""

    distribution: str = MISSING
    low: float = MISSING
    high: float = MISSING
    mean: float = MISSING
    std: float = MISSING
    around_mean_pixel: bool = MISSING


@dataclass
class PyramidConfig:
    """See `objective.coarse_to_fine`."""

    levels: int = MISSING
    factor: float = MISSING
    steps: int = MISSING
    least: int = MISSING
    detail: float = MISSING
    noise: float = MISSING


@dataclass
class Config:
    """All settings of a run; `configs/config.yaml` says what each means."""

    recipe: str = MISSING
    experiment: str | None = MISSING

    content: str | None = MISSING
    style: Any = MISSING
    pairs: Any = MISSING
    contents: str | None = MISSING
    styles: str | None = MISSING
    style_blend: list[float] | None = MISSING
    content_mask: str | None = MISSING
    style_mask: Any = MISSING
    mask_softness: float = MISSING
    content_weight_map: str | None = MISSING
    out: str | None = MISSING
    bits: int = MISSING
    runs_dir: str = MISSING
    save_every: int = MISSING
    checkpoint_every: float = MISSING
    reuse: bool = MISSING
    scores: bool = MISSING
    vgg_score: bool = MISSING
    score: Json = field(default_factory=dict)
    objectives: list[str] = field(default_factory=list)
    tracker: Any = MISSING
    threads: int | None = MISSING
    batch: Any = MISSING
    frozen: list[str] = field(default_factory=list)

    size: Any = MISSING
    size_side: str = MISSING
    style_size: Any = MISSING
    style_rotation: float = MISSING
    colour: str = MISSING

    network: str = MISSING
    weights: str = MISSING
    weights_seed: int = MISSING
    pixels: str | None = MISSING
    pooling: Any = MISSING
    pooling_scale: float | None = MISSING
    precision: str = MISSING
    padding: str = MISSING
    rescale: bool = MISSING
    tuned_network: str | None = MISSING
    tuned_pixels: str | None = MISSING

    balance: bool = MISSING
    content_layers: list[str] = field(default_factory=list)
    content_layer_weights: list[float] | None = MISSING
    content_weight: float = MISSING
    content_reduction: str = MISSING
    style_layers: list[str] = field(default_factory=list)
    style_layer_weights: list[float] | None = MISSING
    style_falloff: float = MISSING
    style_weight: float = MISSING
    style_reduction: str = MISSING
    gram_normalization: str = MISSING
    content_loss: Any = MISSING
    style_loss: Any = MISSING
    smoothing: Any = MISSING
    tv_weight: float = MISSING
    tv_kind: str = MISSING
    value_range: float = MISSING

    init: str = MISSING
    init_mixture: float = MISSING
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    seed: int = MISSING

    solver: Any = MISSING
    steps: int = MISSING
    memory: str | None = MISSING
    tile: int | None = MISSING
    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    tolerance: float = MISSING


@dataclass
class TrainConfig:
    """The settings of a training that are not those of its losses; see `configs/train.yaml`."""

    style: Any = MISSING
    images: str | None = MISSING
    out: str | None = MISSING
    size: int = MISSING
    batch_size: int = MISSING
    steps: int = MISSING
    learning_rate: float = MISSING
    final_rate: float = MISSING
    width: int = MISSING
    blocks: int = MISSING
    upsampling: str = MISSING
    border: str = MISSING
    upscale: int | None = MISSING
    seed: int = MISSING
    checkpoint_every: float = MISSING
    sample_every: int = MISSING
    tracker: Any = MISSING
    threads: int | None = MISSING


@dataclass
class SweeperConfig:
    """See `runs.sweepers.StoreSweeper`."""

    _target_: str = "hydra_plugins._nstyle.StoreSweeper"
    params: dict[str, str] | None = None


#: Settings of `nstyle` that a training has too: what is minimised, and by which network.
LOSS_KEYS = (
    "recipe",
    "style_size",
    "network",
    "weights",
    "weights_seed",
    "pixels",
    "pooling",
    "pooling_scale",
    "precision",
    "padding",
    "rescale",
    "smoothing",
    "balance",
    "content_layers",
    "content_layer_weights",
    "content_weight",
    "content_reduction",
    "content_loss",
    "style_layers",
    "style_layer_weights",
    "style_falloff",
    "style_weight",
    "style_reduction",
    "gram_normalization",
    "style_loss",
    "tv_weight",
    "tv_kind",
    "value_range",
)


#: Keys that name what the `content` and `style` of a sweep's runs are; see `pairs.pairs_of`.
PAIR_KEYS = ("pairs", "contents", "styles")


#: Keys that name files; see `read`.
PATH_KEYS = (
    "content",
    "style",
    "content_mask",
    "style_mask",
    "content_weight_map",
    "out",
    "runs_dir",
    "init",
    "weights",
    *PAIR_KEYS,
)


#: Of these, what is still to be made: one name, whatever is in it.
TARGET_KEYS = ("out", "runs_dir")


#: Keys of lists, for which a single value does.
LIST_KEYS = [key for key, kind in Config.__annotations__.items() if str(kind).startswith("list[")]


#: Keys that say where results go and what else is done with them, not what they are.
OUTPUT_KEYS = (
    "out",
    "bits",
    "runs_dir",
    "save_every",
    "checkpoint_every",
    "reuse",
    "scores",
    "vgg_score",
    "score",
    "objectives",
    "tracker",
    "threads",
    "batch",
    "frozen",
    *PAIR_KEYS,
)


#: Keys that only name what other keys say, or files, which are known by their contents.
NAME_KEYS = (
    "recipe",
    "experiment",
    "content",
    "style",
    "content_mask",
    "style_mask",
    "content_weight_map",
    "weights",
    "weights_seed",
    "tuned_network",
    "tuned_pixels",
)


#: Names that `init` takes, besides the file of a picture.
INITS = ("content", "style", "noise", "mixture")


def register() -> None:
    """Puts the schemas where the YAML files find them."""
    store = ConfigStore.instance()
    if "nstyle_schema.yaml" in store.list(""):  # a name is taken once
        return
    store.store(name="nstyle_schema", node=Config)
    store.store(name="train_schema", node=TrainConfig)
    store.store(group="hydra/sweeper", name="store", node=SweeperConfig)

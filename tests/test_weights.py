"""Every source and format, and what happens when a file is damaged, foreign or incomplete."""

import http.server
import pickle
import re
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from nstyle.errors import NstyleError
from nstyle.networks import layer_names, weights


def keras_file(path, params, old=True):
    """Writes Keras's layout: `block1_conv1/block1_conv1_W_1:0`, or the newer nested one."""
    with h5py.File(path, "w") as file:
        for name, pair in params.items():
            keras = f"block{name[4]}_conv{name[6]}"
            group = file.create_group(keras)
            if old:
                group[f"{keras}_W_1:0"], group[f"{keras}_b_1:0"] = pair["kernel"], pair["bias"]
            else:
                group[f"{keras}/kernel:0"] = pair["kernel"]
                group[f"{keras}/bias:0"] = pair["bias"]
        for block in range(1, 6):
            file.create_group(f"block{block}_pool")
    return path


def torchvision_arrays(params):
    """torchvision's names: VGG-16's convolutions in `features` stand at these places."""
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    arrays = {"classifier.0.bias": np.zeros(4096, np.float32)}
    for place, pair in zip(places, params.values(), strict=True):
        arrays[f"features.{place}.weight"] = np.ascontiguousarray(
            pair["kernel"].transpose(3, 2, 0, 1)
        )
        arrays[f"features.{place}.bias"] = pair["bias"]
    return arrays


def assert_same(found, expected):
    assert list(found) == list(expected)
    for layer, pair in expected.items():
        for kind, array in pair.items():
            np.testing.assert_array_equal(found[layer][kind], array)
            assert found[layer][kind].dtype == np.float32


def test_default_is_torchvisions_vgg16(vgg16):
    assert vgg16.pixels == "torchvision"
    assert tuple(vgg16.params) == layer_names("vgg16")
    np.testing.assert_allclose(vgg16.params["conv1_1"]["kernel"][0, 0, 0, 0], -0.55373, atol=1e-5)


@pytest.mark.parametrize("old", [True, False])
def test_keras_h5(tmp_path, vgg16, old):
    found = weights.load(str(keras_file(tmp_path / "a.h5", vgg16.params, old)))
    assert found.pixels == "caffe"
    assert_same(found.params, vgg16.params)


def test_torchvision_safetensors(tmp_path, vgg16):
    save_file(torchvision_arrays(vgg16.params), tmp_path / "a.safetensors")
    found = weights.load(str(tmp_path / "a.safetensors"))
    assert found.pixels == "torchvision"
    assert_same(found.params, vgg16.params)
    assert weights.load(str(tmp_path / "a.safetensors"), pixels="caffe").pixels == "caffe"


def test_pth(tmp_path, vgg16):
    torch = pytest.importorskip("torch")
    arrays = torchvision_arrays(vgg16.params)
    torch.save({name: torch.from_numpy(a) for name, a in arrays.items()}, tmp_path / "a.pth")
    assert_same(weights.load(str(tmp_path / "a.pth")).params, vgg16.params)


def test_pth_without_torch_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    (tmp_path / "a.pth").write_bytes(b"x")
    with pytest.raises(NstyleError, match=r"a\.pth needs PyTorch .* \.safetensors"):
        weights.load(str(tmp_path / "a.pth"))


def test_convert_keeps_arrays_and_family(tmp_path, vgg16):
    source = keras_file(tmp_path / "a.h5", vgg16.params)
    weights.convert(str(source), "vgg16", tmp_path / "b.safetensors")
    found = weights.load(str(tmp_path / "b.safetensors"))
    assert found.pixels == "caffe"
    assert_same(found.params, vgg16.params)
    with pytest.raises(NstyleError, match="holds vgg16, not vgg19: network=vgg16"):
        weights.load(str(tmp_path / "b.safetensors"), "vgg19")


def without(params, layer):
    return {name: pair for name, pair in params.items() if name != layer}


def changed(params, layer, kind, array):
    return params | {layer: params[layer] | {kind: array}}


WRONG = {
    "missing layer": (lambda p: without(p, "conv3_2"), "layer conv3_2: expected a kernel"),
    "extra layer": (lambda p: p | {"conv3_4": p["conv3_3"]}, "conv3_4 is not one of vgg16's"),
    "kernel's shape": (
        lambda p: changed(p, "conv2_1", "kernel", np.zeros((3, 3, 3, 128), "f4")),
        r"layer conv2_1: .* \(3, 3, 64, 128\), found \(3, 3, 3, 128\)",
    ),
    "bias's shape": (
        lambda p: changed(p, "conv2_1", "bias", np.zeros(7, "f4")),
        r"layer conv2_1: expected a bias of shape \(128,\), found \(7,\)",
    ),
    "not finite": (
        lambda p: changed(p, "conv1_1", "bias", np.full(64, np.nan, "f4")),
        "layer conv1_1: the bias is not finite",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_layers_are_refused_by_file_layer_expected_and_found(tmp_path, vgg16, name):
    change, line = WRONG[name]
    path = keras_file(tmp_path / "a.h5", change(vgg16.params))
    with pytest.raises(NstyleError, match=line) as raised:
        weights.load(str(path))
    assert str(path) in str(raised.value)


def test_networks19_file_for_vgg16_is_refused(tmp_path, vgg16):
    arrays = torchvision_arrays(vgg16.params)
    arrays["features.30.weight"] = np.zeros((512, 512, 3, 3), np.float32)
    save_file(arrays, tmp_path / "a.safetensors")
    with pytest.raises(NstyleError, match=r"features\.30\.weight is not one of vgg16's"):
        weights.load(str(tmp_path / "a.safetensors"))


@pytest.mark.parametrize("suffix", [".h5", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "garbage"])
def test_damaged_files_are_refused(tmp_path, vgg16, suffix, damage):
    path = tmp_path / f"a{suffix}"
    if suffix == ".h5":
        keras_file(path, vgg16.params)
    else:
        save_file(torchvision_arrays(vgg16.params), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"garbage" * 9)
    with pytest.raises(NstyleError, match=f"{re.escape(str(path))} cannot be read") as raised:
        weights.load(str(path))
    assert "\n" not in str(raised.value)


def test_a_strangers_pickle_is_not_read(tmp_path):
    """It may run code, and bytes that NumPy cannot restore may end the process."""
    (tmp_path / "a.ckpt").write_bytes(pickle.dumps({"VGG16_0": {}}))
    with pytest.raises(NstyleError, match=r"file type: unknown value '\.ckpt'"):
        weights.load(str(tmp_path / "a.ckpt"))


def test_tampered_default_weights_are_refused(tmp_path, monkeypatch, vgg16):
    source, _ = weights.locate("lpips", "vgg16")
    copy = tmp_path / "vgg16.ckpt"
    content = bytearray(source.read_bytes())
    content[1_000_000] ^= 1
    copy.write_bytes(content)
    monkeypatch.setattr(weights, "_shipped", lambda _: copy)
    with pytest.raises(NstyleError, match="damaged or was changed: sha256 expected 2ecbe4ce"):
        weights.load()


@pytest.mark.parametrize(
    ("source", "network", "line"),
    [
        ("lpip", "vgg16", "did you mean 'lpips'"),
        ("nowhere.h5", "vgg16", "no such file or name"),
        ("lpips", "vgg19", "'lpips' has no vgg19 .*weights=keras"),
        ("lpips", "vgg11", "network: unknown value 'vgg11'"),
        ("keras", "vgg19", "is not there; get it with: nstyle weights fetch keras --network vgg19"),
    ],
)
def test_unknown_sources_are_refused(source, network, line, tmp_path, monkeypatch):
    monkeypatch.setenv("NSTYLE_CACHE", str(tmp_path))
    with pytest.raises(NstyleError, match=line):
        weights.load(source, network)


def test_unknown_file_type_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"x")
    with pytest.raises(NstyleError, match=r"file type: unknown value '\.npz'"):
        weights.load(str(tmp_path / "a.npz"))


class Flaky(http.server.BaseHTTPRequestHandler):
    """Serves `payload`, honours ranges, and breaks off the first `breaks` answers half-way."""

    payload = bytes(range(256)) * 2000
    breaks = 0
    ranges: list[str] = []  # noqa: RUF012

    def do_GET(self):
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
        type(self).ranges.append(start)
        body = self.payload[start:]
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if type(self).breaks > 0:
            type(self).breaks -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A weight set on a server of this machine, and an empty cache."""
    import hashlib

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    Flaky.ranges, Flaky.breaks = [], 0
    digest = "md5:" + hashlib.md5(Flaky.payload).hexdigest()
    url = f"http://127.0.0.1:{running.server_port}/file.h5"
    source = weights.Source("caffe", "file.h5", digest, url)
    monkeypatch.setitem(weights.SOURCES, ("keras", "vgg16"), source)
    monkeypatch.setenv("NSTYLE_CACHE", str(tmp_path))
    yield source
    running.shutdown()
    thread.join()
    running.server_close()


def test_a_broken_download_goes_on_where_it_stopped(server):
    Flaky.breaks = 2
    path = weights.fetch("keras", "vgg16")
    assert path.read_bytes() == Flaky.payload
    assert len(Flaky.ranges) == 3
    assert Flaky.ranges == sorted(set(Flaky.ranges))
    assert [file.name for file in path.parent.iterdir()] == ["file.h5"]


def test_a_download_given_up_is_gone_on_with_by_the_next_command(server):
    Flaky.breaks = 3
    with pytest.raises(NstyleError, match="could not be fetched .* run the command again to go on"):
        weights.fetch("keras", "vgg16")
    before = len(Flaky.ranges)
    assert weights.fetch("keras", "vgg16").read_bytes() == Flaky.payload
    assert Flaky.ranges[before] > 0
    weights.fetch("keras", "vgg16")
    assert len(Flaky.ranges) == before + 1, "a file in the cache is not asked for again"


def test_a_download_with_the_wrong_hash_is_refused(server, monkeypatch):
    wrong = weights.Source("caffe", "file.h5", "md5:" + "0" * 32, server.url)
    monkeypatch.setitem(weights.SOURCES, ("keras", "vgg16"), wrong)
    with pytest.raises(NstyleError, match="could not be fetched"):
        weights.fetch("keras", "vgg16")
    assert not weights.cached(wrong).exists()


def test_offline_says_which_file_to_put_where(server, monkeypatch):
    monkeypatch.setenv("NSTYLE_OFFLINE", "1")
    with pytest.raises(NstyleError, match=f"put it at {re.escape(str(weights.cached(server)))}"):
        weights.fetch("keras", "vgg16")
    assert Flaky.ranges == []


def test_no_weights_are_committed():
    suffixes = {".h5", ".pth", ".safetensors", ".ckpt"}
    root = Path(weights.__file__).parent
    assert not [path for path in root.rglob("*") if path.suffix in suffixes]

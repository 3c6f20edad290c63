"""The default recipe's objective written in PyTorch, as plainly as its users write it."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch.nn import functional

from nstyle.networks import MEAN_PIXEL, Params, geometry, needed
from nstyle.objective import LossWeights, Structure

#: (1, 3, height, width) -> loss.
TorchObjective = Callable[[torch.Tensor], torch.Tensor]

_MEAN = torch.tensor(MEAN_PIXEL["torchvision"]).view(1, 3, 1, 1)
_STD = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)


def to_torch(picture: np.ndarray) -> torch.Tensor:
    """Returns a picture (height, width, 3) as a tensor (1, 3, height, width)."""
    return torch.tensor(picture.transpose(2, 0, 1)[None].copy())


def torch_objective(
    structure: Structure,
    params: Params,
    loss_weights: LossWeights,
    content: np.ndarray,
    style: np.ndarray,
    channels_last: bool = False,
) -> TorchObjective:
    """Returns the loss of a picture; its targets are computed here, by the same network.

    Args:
      structure: layers; all else is the default recipe's.
      params: of the network.
      loss_weights: of every layer.
      content: picture (height, width, 3) in [0, 1].
      style: likewise.
      channels_last: whether channels are neighbours in memory.
    """
    memory = torch.channels_last if channels_last else torch.contiguous_format
    convolutions = {
        name: (
            torch.tensor(np.asarray(params[name]["kernel"]).transpose(3, 2, 0, 1).copy()).to(
                memory_format=memory
            ),
            torch.tensor(np.asarray(params[name]["bias"])),
        )
        for name in needed(structure.layers, structure.network)
    }

    def features(image: torch.Tensor) -> Mapping[str, torch.Tensor]:
        found = {}
        x = ((image - _MEAN) / _STD).contiguous(memory_format=memory)
        for name, (kernel, bias) in convolutions.items():
            if geometry(name, structure.network).pooled:
                x = functional.avg_pool2d(x, 2)
            x = functional.relu(functional.conv2d(x, kernel, bias, padding=1), inplace=True)
            if name in structure.layers:
                found[name] = x
        return found

    def gram(feature: torch.Tensor) -> torch.Tensor:
        flat = feature[0].flatten(1)
        return flat @ flat.T / flat.numel()

    with torch.no_grad():
        of_content, of_style = features(to_torch(content)), features(to_torch(style))
        content_targets = {layer: of_content[layer] for layer in structure.content_layers}
        style_targets = {layer: gram(of_style[layer]) for layer in structure.style_layers}

    def loss(image: torch.Tensor) -> torch.Tensor:
        found = features(image)
        terms = [
            float(loss_weights.content[layer]) * (found[layer] - target).square().mean()
            for layer, target in content_targets.items()
        ]
        terms += [
            float(loss_weights.style[layer]) * (gram(found[layer]) - target).square().sum()
            for layer, target in style_targets.items()
        ]
        return torch.stack(terms).sum()

    return loss

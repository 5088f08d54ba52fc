"""Features of slices for distances between distributions: our own predictor's, a random network's, hand-made ones, and
RadImageNet's where the user has the weights. Nothing is downloaded."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import ResNet, resnet50
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from reacquire.engine import Pipeline
from reacquire.networks import PredictorConfig, build_predictor
from reacquire.phantom.leaks import hand_features
from training.evaluation.bench import BATCH

Extractor = Callable[[Tensor], NDArray[np.float64]]
# Channel means that RadImageNet's extractor subtracts, in the order blue, green, red (MONAI's FID example)
BGR_MEAN = (0.406, 0.456, 0.485)
KERAS_EPS = 1.001e-5


def extractors(pipeline: Pipeline, radimagenet: Path | None = None) -> dict[str, Extractor]:
    """Functions (N, 1, S, S) -> (N, F), by name."""
    found: dict[str, Extractor] = {}
    if isinstance(pipeline.predictor.network, ResNet):
        found["predictor"] = lambda images: _run(pipeline.predictor.network, images, pipeline.device)
    found["hand-made"] = lambda images: np.stack([hand_features(image) for image in images[:, 0].numpy()])
    random = random_network()
    found["random network"] = lambda images: _run(random, images, "cpu")
    if radimagenet is not None:
        network = radimagenet_network(radimagenet)
        found["RadImageNet"] = lambda images: _run(network, radimagenet_input(images), "cpu")
    return found


def random_network(seed: int = 0) -> nn.Module:
    """A small ResNet-18 with seeded random weights: what a distance says without any training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_predictor(PredictorConfig(outputs=1, channels=(16, 32, 64, 128))).eval()


def radimagenet_input(images: Tensor) -> Tensor:
    """Grey slices as three channels less RadImageNet's means, unclipped (row 15 of docs/paper.md): (N, 3, S, S)."""
    return images.repeat(1, 3, 1, 1) - torch.tensor(BGR_MEAN).view(1, 3, 1, 1)


def radimagenet_network(path: Path) -> nn.Module:
    """RadImageNet's ResNet-50 without its classifier, from a safetensors file or a state dict (weights only).

    Knows the names of torchvision (optionally after ``backbone.``, or numbered as in a Sequential), and the conversion
    from Keras that the authors used: its convolutions have biases, and the strides sit on the first of each block.

    Raises
    ------
    ValueError
        When the file can't be read or does not hold such weights.
    """
    state = {name: tensor for name, tensor in _named(_state_dict(path)) if not name.startswith("fc.")}
    network = resnet50(spatial_dims=2, n_input_channels=3, conv1_t_stride=2, feed_forward=False, bias_downsample=False)
    if "conv1.bias" in state:
        _as_keras(network)
        state = _without_biases(state)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()[:160]
        raise ValueError(f"{path.name} does not hold the weights of RadImageNet's ResNet-50: {first}") from None
    return network.eval()


def _state_dict(path: Path) -> Mapping[str, Tensor]:
    try:
        data = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; give the file with RadImageNet's ResNet-50 weights") from None
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path.name} can't be read as weights: {type(error).__name__}") from None
    except Exception as error:  # torch raises pickle's own error for what is not a state dict
        raise ValueError(
            f"{path.name} is not a plain state dict ({type(error).__name__}); it was not unpickled"
        ) from None
    if not isinstance(data, Mapping) or not all(isinstance(v, Tensor) for v in data.values()):
        raise ValueError(f"{path.name} is not a plain state dict: names and tensors alone")
    return data


NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def _named(state: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    pairs = []
    for name, tensor in state.items():
        name = name.removeprefix("module.").removeprefix("backbone.")
        head, _, rest = name.partition(".")
        pairs.append((f"{NUMBERED.get(head, head)}.{rest}", tensor))
    return pairs


def _as_keras(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = KERAS_EPS
        if name in ("layer2.0", "layer3.0", "layer4.0"):
            module.conv1.stride, module.conv2.stride = (2, 2), (1, 1)  # type: ignore[union-attr, assignment]


def _without_biases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold each convolution's bias into the mean of the batch norm behind it: exact at inference."""
    kept = {name: tensor for name, tensor in state.items() if not _is_convolution_bias(name, state)}
    for name in state.keys() - kept.keys():
        part = name.removesuffix(".bias")
        norm = part[:-1] + "1" if part.endswith("downsample.0") else part.replace("conv", "bn")
        kept[f"{norm}.running_mean"] = kept[f"{norm}.running_mean"] - state[name]
    return kept


def _is_convolution_bias(name: str, state: Mapping[str, Tensor]) -> bool:
    weight = state.get(name.removesuffix("bias") + "weight")
    return name.endswith(".bias") and weight is not None and weight.ndim == 4


@torch.inference_mode()
def _run(network: nn.Module, images: Tensor, device: str) -> NDArray[np.float64]:
    """What reaches the last layer of a ResNet: spatial means (N, F)."""
    assert isinstance(network, ResNet)
    parts = []
    hook = network.avgpool.register_forward_hook(lambda _, __, output: parts.append(output.flatten(1).cpu()))
    try:
        for batch in images.split(BATCH):
            network(batch.to(device))
    finally:
        hook.remove()
    return torch.cat(parts).double().numpy()

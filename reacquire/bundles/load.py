"""Verified bundle folder -> networks ready to run; the only place where weights enter memory.

safetensors only: a weights file is data, never a program. Half-precision weights are widened on loading.
"""

from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from reacquire.bundles.manifest import Manifest, NetworkEntry
from reacquire.bundles.store import BundleInfo, open_bundle
from reacquire.errors import BundleError
from reacquire.iap import Encoding, load_vocabulary
from reacquire.imaging import Preprocessing
from reacquire.networks import (
    DenoiserConfig,
    DirectConfig,
    PredictorConfig,
    SegmenterConfig,
    ToneConfig,
    build_denoiser,
    build_editor,
    build_predictor,
    build_segmenter,
    build_tone,
    parameter_count,
)


class LoadedBundle(NamedTuple):
    """A bundle in memory; the networks are in evaluation mode on one device."""

    info: BundleInfo
    encoding: Encoding
    preprocessing: Preprocessing
    editor: nn.Module
    predictor: nn.Module
    segmenter: nn.Module
    tone: nn.Module | None = None


def load_bundle(folder: Path, *, device: str = "cpu") -> LoadedBundle:
    """Verify ``folder`` and build its networks.

    Raises
    ------
    BundleError
        When a hash, the vocabulary, the preprocessing, or the shape of a tensor is not what the manifest says.
    """
    info = open_bundle(folder)
    manifest = info.manifest
    networks = manifest.networks
    encoding = _encoding(manifest)
    predictor = _config(PredictorConfig, networks.predictor)
    if predictor.outputs != encoding.width:
        raise BundleError(f"{networks.predictor.file} gives vectors of another layout than {encoding.layout}")
    return LoadedBundle(
        info,
        encoding,
        _preprocessing(manifest),
        _fill(_editor(manifest, encoding), folder, networks.editor, device),
        _fill(build_predictor(predictor), folder, networks.predictor, device),
        _fill(build_segmenter(_config(SegmenterConfig, networks.segmenter)), folder, networks.segmenter, device),
        _fill(_tone(networks.tone, encoding), folder, networks.tone, device) if networks.tone else None,
    )


def _encoding(manifest: Manifest) -> Encoding:
    vocabulary = load_vocabulary(manifest.vocabulary.name)
    if vocabulary.sha256 != manifest.vocabulary.sha256:
        raise BundleError(f"the weights were trained with another edition of the vocabulary {vocabulary.name}")
    return Encoding(vocabulary, manifest.vocabulary.layout)


def _preprocessing(manifest: Manifest) -> Preprocessing:
    preprocessing = Preprocessing.from_dict(manifest.preprocessing.parameters)
    if preprocessing.sha256 != manifest.preprocessing.sha256:
        raise BundleError("the weights were trained with another edition of the preprocessing")
    return preprocessing


def _editor(manifest: Manifest, encoding: Encoding) -> nn.Module:
    """The network of the bundle's method, with fresh weights; it must take vectors of the bundle's own layout."""
    entry = manifest.networks.editor
    direct = manifest.editing.method == "direct"
    config: DirectConfig | DenoiserConfig = _config(DirectConfig, entry) if direct else _config(DenoiserConfig, entry)
    _check_layout(entry, config.parameter_widths, encoding)
    if isinstance(config, DirectConfig):
        return build_editor(config)
    if config.in_channels != (2 if manifest.editing.method == "structure" else 1):
        raise BundleError(f"{entry.file} takes images of {config.in_channels} channels: not what its method shows it")
    return build_denoiser(config)


def _tone(entry: NetworkEntry, encoding: Encoding) -> nn.Module:
    config = _config(ToneConfig, entry)
    _check_layout(entry, config.parameter_widths, encoding)
    return build_tone(config)


def _check_layout(entry: NetworkEntry, widths: tuple[int, ...], encoding: Encoding) -> None:
    if widths != tuple(p.width for p in encoding.parameters):
        raise BundleError(f"{entry.file} takes vectors of another layout than {encoding.layout}")


C = TypeVar("C", DirectConfig, DenoiserConfig, PredictorConfig, SegmenterConfig, ToneConfig)


def _config(kind: type[C], entry: NetworkEntry) -> C:
    try:
        return kind.from_dict(dict(entry.config))
    except (TypeError, ValueError) as error:
        raise BundleError(f"configuration of {entry.file}: {error}") from None


def _fill(network: nn.Module, folder: Path, entry: NetworkEntry, device: str) -> nn.Module:
    """Load weights strictly: same names, same shapes, everything there."""
    try:
        tensors = load_file(folder / entry.file)
    except SafetensorError as error:
        raise BundleError(f"{entry.file} is no safetensors file: {error}") from None
    own = network.state_dict()
    for name in sorted(own.keys() - tensors.keys()):
        raise BundleError(f"{entry.file} lacks {name}")
    for name in sorted(tensors.keys() - own.keys()):
        raise BundleError(f"{entry.file} holds {name}, which the network does not have")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise BundleError(f"{entry.file}: {name} is {tuple(tensor.shape)}, expected {tuple(own[name].shape)}")
    if parameter_count(network) != entry.parameters:
        raise BundleError(f"{entry.file} has {parameter_count(network)} parameters, not {entry.parameters}")
    network.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()})
    # channels_last is what makes convolutions fast on CPU and GPU alike; PyTorch's stub lacks the overload
    network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)

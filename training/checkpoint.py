"""A training state as one safetensors file, written atomically: a run killed at any instant resumes at its last one."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

NAME = "checkpoint.safetensors"


def save_checkpoint(folder: Path, step: int, model: nn.Module, ema: nn.Module | None, optimizer: Optimizer) -> None:
    """Write model, averaged model, optimiser moments and the number of steps done."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    if ema is not None:
        tensors |= {f"ema.{k}": v for k, v in ema.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    part = folder / f"{NAME}.part"
    # clone: safetensors refuses tensors that share memory
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, part, {"step": json.dumps(step)})
    part.replace(folder / NAME)


def load_checkpoint(folder: Path, model: nn.Module, ema: nn.Module | None, optimizer: Optimizer) -> int:
    """Restore a state in place; returns the number of steps done (0 without a checkpoint)."""
    path = folder / NAME
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as stored:
        step = int(json.loads(stored.metadata()["step"]))
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (not a dict)
    model.load_state_dict(_under("model.", tensors))
    if ema is not None:
        ema.load_state_dict(_under("ema.", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in _under("optimizer.", tensors).items():
        index, name = key.split(".", 1)
        moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return step


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

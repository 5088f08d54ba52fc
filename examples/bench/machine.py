"""The machine: its name, and what it can do at best, measured in the same run as everything else."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from examples.bench.timing import seconds

MATRIX, COPY = {"cpu": 1536, "cuda": 8192}, {"cpu": 2**27, "cuda": 2**31}  # edge; bytes


def processor(device: str) -> str:
    """The name of the GPU, or the model name of the CPU."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def ceilings(device: str) -> dict[str, float]:
    """Matrix products (GFLOP/s, by type) and copies (GB/s, read and written) at the rate that PyTorch reaches here."""
    kind = device.split(":")[0]
    edge = MATRIX[kind]
    found = {}
    for dtype in (torch.float32, torch.bfloat16) if kind == "cuda" else (torch.float32,):
        a, b = (torch.randn(edge, edge, device=device, dtype=dtype) for _ in range(2))
        name = str(dtype).removeprefix("torch.")
        found[f"matmul_{name}_gflop_s"] = 2 * edge**3 / seconds(partial(torch.matmul, a, b), 5, device=device) / 1e9
    source = torch.zeros(COPY[kind] // 4, device=device)
    target = torch.empty_like(source)
    found["copy_gb_s"] = 2 * COPY[kind] / seconds(lambda: target.copy_(source), 5, device=device) / 1e9
    return found


class Traffic(TorchDispatchMode):
    """Adds up the bytes of all tensors that operators take and give: what moves if nothing is fused or cached."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not getattr(func, "is_view", False):
            for part in torch.utils._pytree.tree_leaves((args, kwargs, result)):
                if isinstance(part, torch.Tensor):
                    self.bytes += part.numel() * part.element_size()
        return result


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """FLOP and unfused bytes of what runs inside, filled in at the end; not to be timed."""
    found: dict[str, int] = {}
    with torch.no_grad(), FlopCounterMode(display=False) as flops, Traffic() as traffic:
        yield found
    found |= {"flop": flops.get_total_flops(), "bytes": traffic.bytes}

"""One plain training loop for all three models; the objective is the only thing that differs.

Every random number is a function of (seed, step), so the state is just weights, moments and a step counter.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.batches import Batch
from training.checkpoint import load_checkpoint, save_checkpoint
from training.config import TrainConfig, to_json

Objective = Callable[[nn.Module, Batch, torch.Generator], torch.Tensor]
Report = Callable[[int, float], None]


def train(
    model: nn.Module,
    objective: Objective,
    batches: Callable[[int, int], Batch],
    config: TrainConfig,
    run: Path,
    *,
    device: str = "cpu",
    report: Report,
) -> nn.Module:
    """Train ``model`` and return the weights to keep (the moving average where the run has one).

    Parameters
    ----------
    batches : maps (phase number, step) to a batch
    run : folder of the run; a checkpoint in it is resumed, bit for bit as if the run had not been broken off (CPU)
    report : told (step, loss) after each step
    """
    # twice as fast on a CPU; PyTorch's stub lacks the overload
    model.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema)) if config.ema is not None else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=config.weight_decay)
    done = load_checkpoint(run, model, ema, optimizer)
    with _open_log(run / "losses.jsonl", done) as log:
        for step in range(done, config.steps):
            number, _, optimizer.param_groups[0]["lr"] = config.phase_at(step)
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=config.bfloat16):
                loss = objective(model, _to(batches(number, step), device), generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if config.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            if ema is not None:
                ema.update_parameters(model)
            report(step, loss.item())
            log.write(json.dumps({"step": step, "loss": loss.item()}) + "\n")
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                save_checkpoint(run, step + 1, model, ema, optimizer)
    kept = ema.module if ema is not None else model
    return kept.eval()


def _open_log(path: Path, done: int) -> TextIO:
    """The log of losses, one line per step, cut back to the ``done`` steps that the checkpoint knows of."""
    kept = path.read_text(encoding="utf-8").splitlines(keepends=True)[:done] if path.exists() else []
    path.write_text("".join(kept), encoding="utf-8")
    return path.open("a", encoding="utf-8", buffering=1)


def open_run(folder: Path, config: TrainConfig, *, resume: bool) -> None:
    """Create a run folder, or check that the one to resume belongs to the same run.

    Raises
    ------
    FileExistsError
        When the folder exists and ``resume`` is false: runs are never overwritten.
    ValueError
        When the run to resume was started with another configuration.
    """
    record = folder / "config.json"
    if record.exists():
        if not resume:
            raise FileExistsError(f"{folder} holds a run already; resume it or name another folder")
        if json.loads(record.read_text(encoding="utf-8")) != json.loads(json.dumps(to_json(config))):
            raise ValueError(f"{folder} was started with another configuration; see its config.json")
        return
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(to_json(config), indent=1) + "\n", encoding="utf-8")


def _to(batch: Batch, device: str) -> Batch:
    return Batch._make(part.to(device) for part in batch)

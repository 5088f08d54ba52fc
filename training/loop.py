"""One plain training loop for all three models; the objective is the only thing that differs.

Every random number is a function of (seed, step, item), so the state is just weights, moments and a step counter. Under
``torchrun`` each process computes its part of every batch; the process of rank 0 alone writes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.batches import Batch
from training.checkpoint import State, load_checkpoint, save_checkpoint
from training.config import TrainConfig, TrainError
from training.prefetch import ahead
from training.tracking import TrackerName, open_log
from training.validation import Objective, Validation, draws

GPU_LOADERS = 4  # threads; a CPU is kept busy by one
STREAM = 0  # of random numbers; 1 is that of validation
Report = Callable[[int, float], None]


@dataclass(frozen=True)
class Task:
    """What a run learns: its batches by (phase, step, part, parts), its loss, and where it is validated."""

    batches: Callable[[int, int, int, int], Batch]
    objective: Objective
    validation: Validation | None = None


def train(
    network: nn.Module,
    task: Task,
    config: TrainConfig,
    run: Path,
    fabric: Fabric,
    *,
    report: Report,
    trackers: tuple[TrackerName, ...] = (),
) -> State:
    """Train ``network`` in place; ``State.kept`` of what is returned are the weights to keep.

    Parameters
    ----------
    config : with its number of steps known (``TrainConfig.sized``)
    run : folder of the run; a checkpoint in it is resumed, bit for bit as if the run had not been broken off (CPU)
    fabric : launched
    report : told (step, loss) after each step

    Raises
    ------
    OSError
        When a file can't be written; the last checkpoint stands.
    TrainError
        When a batch can't be divided among the processes.
    """
    parts = _parts(config, fabric)
    state, model, optimizer = _set_up(network, config, run, fabric)

    def load(step: int) -> list[Batch]:
        return [task.batches(config.phase_at(step)[0], step, part, parts) for part in _own(config, fabric)]

    with open_log(run, state.step, trackers if fabric.is_global_zero else None) as log:
        todo = range(state.step, state.step if _over(config, state) else config.steps)
        for step, batches in ahead(load, todo, threads=1 if fabric.device.type == "cpu" else GPU_LOADERS):
            _, _, rate = config.phase_at(step)
            state.optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            loss = _accumulate(model, task.objective, batches, step, config, fabric)
            if config.clip is not None:
                fabric.clip_gradients(model, optimizer, max_norm=config.clip, error_if_nonfinite=False)
            optimizer.step()
            if state.ema is not None:
                state.ema.update_parameters(state.model)
            state.step = step + 1
            values = {"loss": loss} | _validate(state, task.validation, config, fabric)
            report(step, loss)
            log(step, values, rate)
            last = state.step == config.steps or _over(config, state)
            if fabric.is_global_zero and (last or state.step % config.checkpoint_every == 0):
                save_checkpoint(run, state)
            if last:
                break
    if state.best:
        state.kept.load_state_dict(state.best)
    state.kept.eval()
    return state


def _set_up(network: nn.Module, config: TrainConfig, run: Path, fabric: Fabric) -> tuple[State, Any, Any]:
    """(the state, as the run's checkpoint has it; network and optimiser as Fabric runs them)."""
    # channels_last: twice as fast on a CPU; PyTorch's stub lacks the overload
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    adamw = torch.optim.AdamW(network.parameters(), lr=1.0, weight_decay=config.weight_decay)
    compiled: Any = torch.compile(network, backend=config.compiler) if config.compiler else network
    model, optimizer = fabric.setup(compiled, adamw)
    ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema)) if config.ema is not None else None
    state = State(network, ema, adamw, fabric.strategy.precision)
    load_checkpoint(run, state)
    return state, model, optimizer


def _parts(config: TrainConfig, fabric: Fabric) -> int:
    """Into how many parts each batch falls: one for each process and turn."""
    parts = fabric.world_size * config.accumulate
    for phase in config.phases:
        if phase.batch_size % parts:
            raise TrainError(
                f"a batch of {phase.batch_size} does not fall into {parts} equal parts ({fabric.world_size} processes, "
                f"{config.accumulate} turns): take another number of processes or --accumulate"
            )
    return parts


def _own(config: TrainConfig, fabric: Fabric) -> range:
    """The parts of every batch that this process computes."""
    return range(fabric.global_rank, fabric.world_size * config.accumulate, fabric.world_size)


def _accumulate(
    model: Any, objective: Objective, batches: list[Batch], step: int, config: TrainConfig, fabric: Fabric
) -> float:
    """Average the gradients of all parts, over turns and processes; returns the mean loss of the whole batch."""
    parts = fabric.world_size * config.accumulate
    total = torch.zeros((), device=fabric.device)
    for turn, (part, batch) in enumerate(zip(_own(config, fabric), batches, strict=True)):
        items = range(part, part + parts * len(batch.target), parts)
        generators = draws(config.seed, (STREAM, step), items, fabric.device)
        with fabric.no_backward_sync(model, enabled=turn + 1 < len(batches)):
            loss = objective(model, batch.to(fabric.device), generators) / len(batches)
            fabric.backward(loss)
        total += loss.detach()
    return _over_processes(total, "mean", fabric)


def _validate(state: State, validation: Validation | None, config: TrainConfig, fabric: Fabric) -> dict[str, float]:
    """The validation loss where this step is due for one; the state then knows how the run stands."""
    if validation is None or config.validate_every is None:
        return {}
    if state.step % config.validate_every and state.step != config.steps:
        return {}
    with fabric.autocast():
        total = validation.total(state.kept, fabric.global_rank, fabric.world_size, fabric.device)
    loss = _over_processes(total, "sum", fabric) / len(validation.batches.rows)
    state.standing = state.standing.after(loss, state.step)
    if config.patience is not None and state.standing.step == state.step:
        state.best = {key: value.detach().clone() for key, value in state.kept.state_dict().items()}
    return {"validation": loss}


def _over_processes(value: torch.Tensor, operation: str, fabric: Fabric) -> float:
    """Sum or mean of a scalar over the processes."""
    return float(torch.as_tensor(fabric.all_reduce(value, reduce_op=operation)))


def _over(config: TrainConfig, state: State) -> bool:
    return config.patience is not None and state.standing.stale >= config.patience

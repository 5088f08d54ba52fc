"""Fits the tone network of a bundle (`reacquire.networks.tone`): tissue means in, change of gland's mean out.

Its examples are numbers, not images: each slice goes once through the bundle's segmenter, every ordered pair of a
group is an example, and the fit takes a minute on a CPU. Absolute error, as a few slices have wrong masks.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from reacquire.bundles.load import LoadedBundle, load_bundle
from reacquire.engine.tone import GLAND, LEAST_PIXELS, Tone, tissue_statistics, weighted_mean
from reacquire.errors import ReacquireError
from reacquire.iap import Encoding
from reacquire.networks import TONES, Condition, ToneNetwork, build_tone, drop, parameter_count
from training.cache import Row, SliceCache
from training.config import TrainError
from training.data_commands import cached, fail
from training.ingest import IngestError
from training.loop import Report
from training.progress import steps as steps_bar
from training.progress import tracked
from training.record import RunRecord, count_scanners, count_seen, write_record

PRESET, STEPS, BATCH = "default", 1500, 256
RATE, DECAY = 2e-3, 1e-3
JITTER = 0.1  # standard deviation added to the scaled statistics: other women have others
FORGOTTEN = 0.05  # share of parameters that are unknown in an example

Tracked = Callable[[Iterable[Any], str], Iterable[Any]]


class Examples(NamedTuple):
    """``change`` (N,) of gland's mean from a source to its mate, with the source's statistics (N, 9)."""

    statistics: Tensor
    source: Condition
    target: Condition
    change: Tensor

    def at(self, rows: Tensor) -> "Examples":
        return Examples(self.statistics[rows], self.source.index(rows), self.target.index(rows), self.change[rows])


@torch.no_grad()
def examples_of(cache: SliceCache, rows: Iterable[Row], encoding: Encoding, tone: Tone, track: Tracked) -> Examples:
    """Every ordered pair of slices of one group, the mate noiseless where the cohort has it so.

    Raises
    ------
    TrainError
        When no two slices with enough gland have a mate.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.pair_group].append(row)
    parts = [
        _examples_of_group(cache, group, encoding, tone)
        for group in track([g for g in groups.values() if len(g) > 1], "tissue means")
    ]
    found = [part for part in parts if len(part.change)]
    if sum(len(part.change) for part in found) < 2:
        raise TrainError("no slice with gland was scanned twice in this cohort: a tone network has nothing to learn")
    return Examples(
        torch.cat([part.statistics for part in found]),
        Condition.concat([part.source for part in found]),
        Condition.concat([part.target for part in found]),
        torch.cat([part.change for part in found]),
    )


def _examples_of_group(cache: SliceCache, group: list[Row], encoding: Encoding, tone: Tone) -> Examples:
    indices = [row.index for row in group]
    images, truths = (
        torch.from_numpy(np.asarray(array[indices], dtype=np.float32))[:, None]
        for array in (cache.images, cache.images if cache.cleans is None else cache.cleans)
    )
    probabilities = tone.probabilities(images)
    gland = probabilities[:, GLAND : GLAND + 1]
    here = weighted_mean(images, gland)
    there = torch.stack([weighted_mean(truth[None], gland)[:, 0] for truth in truths], dim=1)  # (source, target)
    enough = (gland.sum((1, 2, 3)) >= LEAST_PIXELS)[:, None] & ~torch.eye(len(group), dtype=torch.bool)
    source, target = enough.nonzero(as_tuple=True)
    condition = Condition.stack([encoding.encode(row.iap) for row in group])
    return Examples(
        tissue_statistics(images, probabilities)[source],
        condition.index(source),
        condition.index(target),
        (there - here)[source, target],
    )


def fit(network: ToneNetwork, examples: Examples, *, seed: int, steps: int, report: Report) -> ToneNetwork:
    """The network after ``steps`` of AdamW on batches drawn from ``seed``, in evaluation mode.

    Raises
    ------
    TrainError
        When a loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    spread, mean = torch.std_mean(examples.statistics, dim=0)
    network.mean.copy_(mean)
    network.spread.copy_(spread.clamp(min=1e-6))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, max(steps, 2))
    with torch.random.fork_rng():  # of the layers that drop
        torch.manual_seed(seed)
        for step in range(steps):
            batch = examples.at(torch.randint(len(examples.change), (BATCH,), generator=generator))
            noise = JITTER * spread * torch.randn(batch.statistics.shape, generator=generator)
            source, target = (drop(c, FORGOTTEN, generator) for c in (batch.source, batch.target))
            loss = l1_loss(network(batch.statistics + noise, source, target), batch.change)
            if not loss.isfinite():
                raise TrainError(f"the loss of step {step} is not finite; the cohort may hold pixels that are not")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            report(step, loss.item())
    return network.eval()


def train_tone(
    bundle: LoadedBundle, cache: SliceCache, run: Path, *, seed: int, steps: int, report: Report, track: Tracked
) -> Path:
    """Fit the tone network of a bundle on a cohort's training split; the weights file in the new folder ``run``.

    Raises
    ------
    FileExistsError
        When the folder exists: runs are never overwritten.
    TrainError
        When bundle and cohort do not fit, or there is nothing to learn.
    OSError
        When a file can't be written.
    """
    if bundle.info.manifest.editing.method != "direct" or bundle.encoding.layout != "default":
        raise TrainError("a tone network follows a direct editor; this bundle has another")
    if cache.preprocessing != bundle.preprocessing.to_dict():
        raise TrainError("the cohort was cached with another preprocessing than that of the bundle")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_tone(TONES[PRESET])
    if run.exists():
        raise FileExistsError(f"{run} exists and a run is never altered; name a new folder")
    tone = Tone(network, bundle.segmenter)
    examples = examples_of(cache, cache.split("train"), bundle.encoding, tone, track)
    fit(network, examples, seed=seed, steps=steps, report=report)
    run.mkdir(parents=True)  # not before there is something to write: the same command can be given again
    try:
        save_file(network.state_dict(), run / "weights.safetensors")
    except SafetensorError as error:
        raise OSError(f"{run} can't be written ({error}); make room, remove it and repeat the command") from error
    write_record(run, _record(bundle, cache, network, seed, steps))
    return run / "weights.safetensors"


def _record(bundle: LoadedBundle, cache: SliceCache, network: nn.Module, seed: int, steps: int) -> RunRecord:
    manifest = bundle.info.manifest
    return RunRecord(
        model="tone",
        preset=PRESET,
        seed=seed,
        steps=steps,
        network=TONES[PRESET].to_dict(),
        parameters=parameter_count(network),
        vocabulary=bundle.encoding.vocabulary.sha256,
        layout=bundle.encoding.layout,
        preprocessing=cache.preprocessing,
        cohort=cache.cohort,
        synthetic=cache.synthetic,
        seen=count_seen(cache, bundle.encoding),
        method=None,
        scanners=count_scanners(cache, bundle.encoding),
        segmenter=manifest.files[manifest.networks.segmenter.file],
    )


def tone_command(
    bundle: Annotated[Path, typer.Argument(help="whose segmenter tells the tissues, and whose edits it will follow")],
    cohort: Annotated[Path, typer.Option(help="folder of paired slices, written by the cohort command")],
    run: Annotated[Path, typer.Option(help="new run folder, for pack --tone")],
    seed: int = 0,
    steps: Annotated[int, typer.Option(min=1)] = STEPS,
) -> None:
    """Fit the small network that moves gland after a direct editor; a minute or two on a CPU."""
    try:
        loaded = load_bundle(bundle)
        with steps_bar(steps, "tone") as report:
            weights = train_tone(loaded, cached(cohort), run, seed=seed, steps=steps, report=report, track=tracked)
    except (IngestError, TrainError, OSError, ReacquireError) as error:
        fail(error)
    typer.echo(f"weights: {weights}")

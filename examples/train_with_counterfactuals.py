"""A MONAI segmenter trained on one vendor's women, with and without counterfactuals of the other vendor, tested there.

Everybody is simulated, so the script runs anywhere, in a few minutes on two cores; with so few women its intervals
are as wide as they should be. Raise ``--women``, ``--test-women``, ``--steps`` and ``--seeds`` for a figure that says
something.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from monai.data import DataLoader, Dataset
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import Compose, RandFlipd, Resized, ScaleIntensityRangePercentilesd, ToTensord, Transform
from monai.utils import set_determinism
from scipy.stats import bootstrap
from torch import Tensor, nn

from reacquire.metrics import dice
from reacquire.phantom import make_subject, sample_protocol, sample_scanner, simulate_slice
from reacquire.transforms import RandIAPCounterfactuald, TargetPool

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "phantom-v1"
PROTOCOLS = {"siemens": ("S1", "S2", "S3", "S4"), "ge": ("G1", "G2", "G3", "G4")}  # of reacquire.phantom
TISSUES = ("fat", "fibroglandular")
FIRST_WOMAN = 3_000_000  # no cohort of ours draws these seeds
SIZE = 96


@dataclass(frozen=True)
class Plan:
    """How one segmenter is trained."""

    steps: int
    batch_size: int
    workers: int
    seed: int


def simulate(women: Sequence[int], vendor: str, slices: int) -> list[dict[str, Any]]:
    """Slices of some women, each woman on one of the vendor's protocols, as items for ``Compose``."""
    items = []
    for woman in women:
        rng = np.random.default_rng(woman)
        subject = make_subject(woman)
        protocol = sample_protocol(rng, protocol_id=PROTOCOLS[vendor][woman % len(PROTOCOLS[vendor])])
        scanner = sample_scanner(rng, protocol)
        for z_mm in np.linspace(*subject.z_range, slices + 2)[1:-1]:
            simulated = simulate_slice(subject, float(z_mm), protocol, scanner, noise_seed=int(rng.integers(2**31)))
            items.append(
                {
                    "image": simulated.image[None].astype(np.float32),
                    "label": simulated.labels[None],
                    "iap": dict(protocol.iap),
                    "woman": woman,
                }
            )
    return items


def protocols_of(vendor: str) -> TargetPool:
    """The vendor's protocols as anyone can know them; nothing of the women who are tested on enters."""
    return TargetPool.of(sample_protocol(np.random.default_rng(0), protocol_id=p).iap for p in PROTOCOLS[vendor][:2])


def preprocessing() -> list[Transform]:
    """Percentile normalisation and a small grid, for training and tests alike."""
    return [
        ScaleIntensityRangePercentilesd("image", 10, 99, 0, 1),
        Resized(["image", "label"], (SIZE, SIZE), mode=["area", "nearest-exact"]),
        ToTensord(["image", "label"]),
    ]


def train(items: Sequence[dict[str, Any]], augmentation: Sequence[Transform], plan: Plan) -> nn.Module:
    """A small U-Net after ``plan.steps`` optimiser steps, the same number for every arm."""
    set_determinism(plan.seed)
    flip = RandFlipd(["image", "label"], prob=0.5, spatial_axis=1)
    chain = Compose([*augmentation, *preprocessing(), flip]).set_random_state(plan.seed)
    loader = DataLoader(
        Dataset(list(items), chain), plan.workers, batch_size=plan.batch_size, shuffle=True, drop_last=True
    )
    network = UNet(2, in_channels=1, out_channels=3, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    step = 0
    while step < plan.steps:
        for batch in loader:
            optimiser.zero_grad()
            loss(network(batch["image"]), batch["label"].long()).backward()
            optimiser.step()
            step += 1
            if step == plan.steps:
                break
    return network.eval()


@torch.inference_mode()
def dice_by_woman(network: nn.Module, items: Sequence[dict[str, Any]]) -> Tensor:
    """(women, tissues) Dice over all slices of each woman: her slices are not independent."""
    chain = Compose(preprocessing())
    prepared = [chain(item) for item in items]
    scores = []
    for woman in sorted({item["woman"] for item in items}):
        hers = [p for p in prepared if p["woman"] == woman]
        images, labels = (torch.stack([torch.as_tensor(p[key]) for p in hers]) for key in ("image", "label"))
        scores.append(dice(network(images).argmax(1), labels[:, 0], classes=3)[1:])
    return torch.stack(scores)


def interval(values: Tensor, sign: str = "") -> str:
    """Mean over women with the 95 % percentile bootstrap interval of that mean; ``sign`` "+" for differences."""
    array = values.double().numpy()
    low, high = bootstrap((array,), np.mean, method="percentile", n_resamples=2000, rng=0).confidence_interval
    return f"{array.mean():{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def main(
    women: Annotated[int, typer.Option(min=1, help="women to train on")] = 4,
    test_women: Annotated[int, typer.Option(min=2, help="women of the other vendor to test on")] = 3,
    slices: Annotated[int, typer.Option(min=1, help="slices per woman")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="optimiser steps of either arm")] = 60,
    seeds: Annotated[int, typer.Option(min=1, help="trainings per arm; the Dice is their mean")] = 1,
    source: Annotated[str, typer.Option(help="siemens or ge: the vendor to train on")] = "siemens",
    bundle: Annotated[Path, typer.Option(help="bundle that makes the counterfactuals")] = BUNDLE,
    store: Annotated[Path, typer.Option(help="where finished counterfactuals are kept")] = Path("out/counterfactuals"),
    workers: Annotated[int, typer.Option(min=0, help="DataLoader processes")] = 0,
) -> None:
    """Compare the two arms on the other vendor."""
    other = "ge" if source == "siemens" else "siemens"
    seen = simulate(range(FIRST_WOMAN, FIRST_WOMAN + women), source, slices)
    unseen = simulate(range(FIRST_WOMAN + 500_000, FIRST_WOMAN + 500_000 + test_women), other, slices)
    counterfactual = RandIAPCounterfactuald(
        "image", bundle, protocols_of(other), prob=0.5, source_key="iap", store=store
    )
    arms: dict[str, list[Transform]] = {"without": [], "with": [counterfactual]}
    scores = {}
    for name, augmentation in arms.items():
        typer.echo(f"arm '{name} counterfactuals': {seeds} training(s) of {steps} steps ...", err=True)
        plans = [Plan(steps, min(6, len(seen)), workers, seed) for seed in range(seeds)]
        runs = [dice_by_woman(train(seen, augmentation, plan), unseen) for plan in plans]
        scores[name] = torch.stack(runs).nanmean(0)
    typer.echo(f"trained on {women} simulated women ({source}), tested on {test_women} others ({other}), Dice:")
    for i, tissue in enumerate(TISSUES):
        for name, score in scores.items():
            typer.echo(f"  {tissue:15} {name:8} counterfactuals  {interval(score[:, i])}")
        gain = scores["with"][:, i] - scores["without"][:, i]
        typer.echo(f"  {tissue:15} difference                {interval(gain, '+')}")
    typer.echo(
        f"95 % bootstrap intervals over {test_women} women; they leave out the chance of training ({seeds} seed(s) per "
        "arm).\nSimulated women only: nothing here says how it would be with real ones."
    )


if __name__ == "__main__":
    typer.run(main)

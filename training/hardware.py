"""Where a run happens: Lightning Fabric with the devices of this process group, and the precision that they do well.

``torchrun`` starts the processes; without it there is one. What a run computes is ``TrainConfig``'s business.
"""

import os
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from lightning_fabric.strategies import DDPStrategy

from training.config import PrecisionName, TrainConfig, TrainError

Accelerator = Literal["auto", "cpu", "cuda"]
PATIENCE = timedelta(hours=2)  # others wait for rank 0 while it caches a cohort


class Autocast(MixedPrecision):
    """Mixed precision that leaves the network's inputs alone.

    Fabric would round them to 16 bits; but the editor answers a gain on its input, which must keep its 32.
    """

    def convert_input(self, data: Any) -> Any:
        return data


def device_of(accelerator: Accelerator) -> str:
    """Type of the device that a run computes on: a GPU where there is one."""
    if accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return accelerator


def placed(config: TrainConfig, accelerator: Accelerator = "auto") -> TrainConfig:
    """The run with its precision where the device computes it natively, else with another one.

    A CPU has no 16-bit floats that training survives; bfloat16 pays with matrix units only (AMX), and without them
    costs two to three times the time. A GPU without bfloat16 takes 16-bit floats and scales the gradients.
    """
    wanted = config.precision
    if device_of(accelerator) == "cpu":
        amx = torch.cpu.get_capabilities().get("amx_bf16", False)
        return replace(config, precision="bf16-mixed" if wanted == "bf16-mixed" and amx else "32-true")
    if wanted == "bf16-mixed" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return replace(config, precision="16-mixed")
    return config


def launch(precision: PrecisionName, accelerator: Accelerator = "auto") -> Fabric:
    """Fabric for this process, connected with its siblings where ``torchrun`` started some.

    Raises
    ------
    TrainError
        When 16-bit floats are asked of a CPU.
    """
    device = device_of(accelerator)
    if device == "cpu" and precision == "16-mixed":
        raise TrainError("16-mixed needs a GPU; on a CPU take --precision 32-true or bf16-mixed")
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=world // local,
        strategy=DDPStrategy(timeout=PATIENCE) if world > 1 else "auto",
        plugins=Precision() if precision == "32-true" else Autocast(precision, device),
    )
    fabric.launch()
    return fabric

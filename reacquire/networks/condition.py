"""The condition as the networks take it: a batch of encoded acquisition parameters, and how training drops them.

Encoding records into vectors is `reacquire.iap`'s task; turning vectors into tokens is the denoiser's.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from reacquire.iap import EncodedIap

DropMode = Literal["independent", "whole"]


class Condition(NamedTuple):
    """Encoded parameters of a batch.

    ``vector`` is (B, D) float32, laid out by `reacquire.iap.Encoding`; ``known`` is (B, P) bool, one entry per
    parameter. The entries of an unknown parameter carry no meaning: every denoiser ignores them.
    """

    vector: Tensor
    known: Tensor

    @classmethod
    def stack(cls, encoded: Sequence[EncodedIap], device: torch.device | str = "cpu") -> Self:
        """A batch from single encodings, in their order."""
        vector = torch.from_numpy(np.stack([e.vector for e in encoded]))
        known = torch.from_numpy(np.stack([e.known for e in encoded]))
        return cls(vector.to(device), known.to(device))

    @classmethod
    def concat(cls, conditions: Sequence[Self]) -> Self:
        """Several batches as one, as the two branches of guidance need it."""
        return cls(torch.cat([c.vector for c in conditions]), torch.cat([c.known for c in conditions]))

    def index(self, rows: Tensor) -> "Condition":  # type: ignore[override]  # a batch is indexed, not searched
        """The rows named by a LongTensor or bool mask (B,)."""
        return Condition(self.vector[rows], self.known[rows])

    def to(self, device: torch.device | str) -> "Condition":
        """The same condition on another device."""
        return Condition(self.vector.to(device), self.known.to(device))

    def null_like(self) -> "Condition":
        """The condition that says nothing, in the same shape and on the same device."""
        return Condition(torch.zeros_like(self.vector), torch.zeros_like(self.known))


def drop(
    condition: Condition,
    p: float,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    mode: DropMode = "independent",
) -> Condition:
    """Forget parameters at random, so that the denoiser also learns to do without them.

    Parameters
    ----------
    condition : Condition
        What the batch was acquired with.
    p : float
        Probability of forgetting, in [0, 1]; the paper's conditional dropout is 0.15 (section 2.3).
    generator : torch.Generator, sequence of torch.Generator, or None
        One for all, or one per item: then an item's draw does not depend on its batch mates. They draw on their own
        device, whatever that of the condition.
    mode : {"independent", "whole"}
        ``independent`` forgets each parameter on its own (any subset can then be unknown when serving); ``whole``
        forgets all parameters of an item together, as the authors do.

    Returns
    -------
    Condition
        With ``known`` thinned out; the vector of an item without any known parameter is zero.

    Raises
    ------
    ValueError
        When ``p`` is not a probability or the mode is unknown.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p must lie in [0, 1], not {p}")
    if mode not in ("independent", "whole"):
        raise ValueError(f"mode must be 'independent' or 'whole', not {mode!r}")
    items, parameters = condition.known.shape
    columns = parameters if mode == "independent" else 1
    if isinstance(generator, Sequence):
        drawn = torch.stack([torch.rand(columns, generator=g, device=g.device) for g in generator])
    else:
        drawn = torch.rand(items, columns, generator=generator, device=generator.device if generator else None)
    keep = (drawn >= p).to(condition.known.device)
    known = condition.known & keep
    anything = known.any(dim=1, keepdim=True)
    return Condition(torch.where(anything, condition.vector, torch.zeros_like(condition.vector)), known)

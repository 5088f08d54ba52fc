"""What the predictor reads from images: values, and the probability of every category. The judge, never the judged."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reacquire.engine import Predictor
from reacquire.iap import Categorical, Record, Value
from reacquire.iap.vocabulary import Parameter
from training.evaluation.bench import BATCH


@dataclass(frozen=True)
class Readings:
    """``values`` has one record per image; ``outputs`` (N, D) the predictor's own numbers."""

    predictor: Predictor
    values: tuple[Record, ...]
    outputs: Tensor

    def probability(self, keyword: str, targets: Sequence[Record]) -> Tensor:
        """(N,) probability of each target's category; that of a manufacturer is the sum over its models."""
        encoding, vocabulary = self.predictor.encoding, self.predictor.encoding.vocabulary
        column = "ManufacturerModelName" if keyword == "Manufacturer" else keyword
        parameter = next(p for p in encoding.parameters if p.keyword == column)
        assert isinstance(parameter, Categorical)
        never = [c in self.predictor.unseen.get(column, ()) for c in parameter.categories]
        logits = self.outputs[:, encoding.slices[column]].masked_fill(torch.tensor(never), -torch.inf)
        shares = logits.softmax(1)

        def stands_for(category: Value, target: Record) -> bool:
            seen = vocabulary.manufacturer_of(category) if keyword == "Manufacturer" else category
            return seen == target[keyword]

        wanted = torch.tensor([[stands_for(c, t) for c in parameter.categories] for t in targets])
        return (shares * wanted).sum(1)


def read(predictor: Predictor, images: Tensor, device: str) -> Readings:
    """Let the predictor look at (N, 1, S, S) images, one by one."""
    outputs = torch.cat([predictor.outputs(part.to(device)) for part in images.split(BATCH)])
    return Readings(predictor, tuple(predictor.read(row[None]).values for row in outputs), outputs)


def readable(predictor: Predictor) -> tuple[Parameter, ...]:
    """The parameters that the predictor speaks of; with the model it speaks of the manufacturer."""
    keywords = {p.keyword for p in predictor.encoding.parameters}
    if "ManufacturerModelName" in keywords:
        keywords.add("Manufacturer")
    return tuple(p for p in predictor.encoding.vocabulary.parameters if p.keyword in keywords)

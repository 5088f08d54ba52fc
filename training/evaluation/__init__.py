"""Measures a bundle on held-out women and writes one self-contained report: docs/training.md says what is in it."""

from training.evaluation.flat import metrics_of
from training.evaluation.reader import import_answers
from training.evaluation.rescans import volumes
from training.evaluation.run import SECTIONS, Inputs, evaluate

__all__ = ["SECTIONS", "Inputs", "evaluate", "import_answers", "metrics_of", "volumes"]

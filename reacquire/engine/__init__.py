"""Runs a bundle's networks on slices: what worker, command line and evaluation share."""

from pathlib import Path

from reacquire.bundles.load import load_bundle
from reacquire.engine.editor import Editor
from reacquire.engine.judges import CLASSES, Predictor, Segmenter
from reacquire.engine.method import Settings
from reacquire.engine.pipeline import Pipeline
from reacquire.engine.tone import Tone
from reacquire.engine.work import Outcome, Prediction, Raw, Work
from reacquire.errors import BundleError

__all__ = [
    "CLASSES",
    "Editor",
    "Outcome",
    "Pipeline",
    "Prediction",
    "Predictor",
    "Raw",
    "Segmenter",
    "Settings",
    "Work",
    "load_pipeline",
]


def load_pipeline(
    folder: Path,
    *,
    device: str = "cpu",
    slices_per_batch: int = 16,
    uid_root: str | None = None,
    least_support: float = 0.0,
) -> Pipeline:
    """The pipeline of the bundle in ``folder``, its networks on ``device``; UIDs of results lie under ``uid_root``.

    Targets with a lower support score (``reacquire.iap.support``) than ``least_support`` are refused.

    Raises
    ------
    BundleError
        When the bundle is not sound, or does not say what it was trained on although support is asked for.
    """
    loaded = load_bundle(folder, device=device)
    tone = Tone(loaded.tone, loaded.segmenter) if loaded.tone else None
    if least_support > 0 and not loaded.info.manifest.trained_on:
        raise BundleError(f"{loaded.info.name} does not say what it was trained on, so no support can be demanded")
    return Pipeline(
        bundle=loaded.info,
        vocabulary=loaded.encoding.vocabulary,
        preprocessing=loaded.preprocessing,
        predictor=Predictor(loaded.predictor, loaded.encoding, loaded.info.unseen),
        segmenter=Segmenter(loaded.segmenter),
        editor=Editor(loaded.editor, loaded.encoding, loaded.info.manifest.editing, tone),
        device=device,
        slices_per_batch=slices_per_batch,
        uid_root=uid_root,
        least_support=least_support,
    )

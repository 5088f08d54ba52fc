"""The networks, as configurations and builders: direct editor, the paper's denoiser, predictor, segmenter."""

from reacquire.networks.condition import Condition, drop
from reacquire.networks.denoiser import DENOISERS, Denoiser, DenoiserConfig, build_denoiser, parameter_count
from reacquire.networks.direct import EDITORS, DirectConfig, DirectEditor, build_editor
from reacquire.networks.fold import fold_cross_attention
from reacquire.networks.predictor import PREDICTORS, PredictorConfig, build_predictor
from reacquire.networks.segmenter import SEGMENTERS, SegmenterConfig, build_segmenter

__all__ = [
    "DENOISERS",
    "EDITORS",
    "PREDICTORS",
    "SEGMENTERS",
    "Condition",
    "Denoiser",
    "DenoiserConfig",
    "DirectConfig",
    "DirectEditor",
    "PredictorConfig",
    "SegmenterConfig",
    "build_denoiser",
    "build_editor",
    "build_predictor",
    "build_segmenter",
    "drop",
    "fold_cross_attention",
    "parameter_count",
]

"""The three networks, as configurations and builders: denoiser, parameter predictor, tissue segmenter."""

from reacquire.networks.condition import Condition, drop
from reacquire.networks.denoiser import DENOISERS, Denoiser, DenoiserConfig, build_denoiser, parameter_count
from reacquire.networks.fold import fold_cross_attention
from reacquire.networks.predictor import PREDICTORS, PredictorConfig, build_predictor
from reacquire.networks.segmenter import SEGMENTERS, SegmenterConfig, build_segmenter

__all__ = [
    "DENOISERS",
    "PREDICTORS",
    "SEGMENTERS",
    "Condition",
    "Denoiser",
    "DenoiserConfig",
    "PredictorConfig",
    "SegmenterConfig",
    "build_denoiser",
    "build_predictor",
    "build_segmenter",
    "drop",
    "fold_cross_attention",
    "parameter_count",
]

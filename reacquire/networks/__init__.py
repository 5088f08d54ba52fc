"""The networks, as configurations and builders: direct editor, tone, the paper's denoiser, predictor, segmenter."""

from reacquire.networks.condition import Condition, drop
from reacquire.networks.denoiser import DENOISERS, Denoiser, DenoiserConfig, build_denoiser, parameter_count
from reacquire.networks.direct import EDITORS, DirectConfig, DirectEditor, build_editor
from reacquire.networks.fold import fold_cross_attention
from reacquire.networks.predictor import PREDICTORS, PredictorConfig, build_predictor
from reacquire.networks.segmenter import SEGMENTERS, SegmenterConfig, build_segmenter
from reacquire.networks.tone import TONES, ToneConfig, ToneNetwork, build_tone

__all__ = [
    "DENOISERS",
    "EDITORS",
    "PREDICTORS",
    "SEGMENTERS",
    "TONES",
    "Condition",
    "Denoiser",
    "DenoiserConfig",
    "DirectConfig",
    "DirectEditor",
    "PredictorConfig",
    "SegmenterConfig",
    "ToneConfig",
    "ToneNetwork",
    "build_denoiser",
    "build_editor",
    "build_predictor",
    "build_segmenter",
    "build_tone",
    "drop",
    "fold_cross_attention",
    "parameter_count",
]

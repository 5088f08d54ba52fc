"""Predictor and segmenter: presets, shapes, configurations."""

import json

import pytest
import torch

from reacquire.iap import Encoding, load_vocabulary
from reacquire.networks import (
    PREDICTORS,
    SEGMENTERS,
    PredictorConfig,
    SegmenterConfig,
    build_predictor,
    build_segmenter,
    parameter_count,
)


@pytest.mark.parametrize("preset", ["paper", "default"])
def test_predictor_gives_one_vector_of_the_encoding(preset: str) -> None:
    network = build_predictor(PREDICTORS[preset]).eval()
    with torch.no_grad():
        output = network(torch.zeros(2, 1, 64, 64))
    assert output.shape == (2, Encoding(load_vocabulary(), preset).width)  # type: ignore[arg-type]


def test_parameter_counts_of_the_paper_presets() -> None:
    with torch.device("meta"):
        predictor, segmenter = build_predictor(PREDICTORS["paper"]), build_segmenter(SEGMENTERS["paper"])
    assert parameter_count(predictor) == 11_182_935  # ResNet-18 with one input channel and 23 outputs
    assert parameter_count(segmenter) == 14_926_802


@pytest.mark.parametrize("preset", SEGMENTERS)
def test_segmenter_gives_three_logits_per_pixel(preset: str) -> None:
    network = build_segmenter(SEGMENTERS[preset]).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 64, 96)).shape == (1, 3, 64, 96)


@pytest.mark.parametrize("config", [*PREDICTORS.values(), *SEGMENTERS.values()])
def test_configuration_survives_json_and_refuses_unknown_keys(config: PredictorConfig | SegmenterConfig) -> None:
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="has no colour"):
        type(config).from_dict({**config.to_dict(), "colour": 1})

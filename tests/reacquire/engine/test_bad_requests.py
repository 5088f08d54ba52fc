"""What no method can do, asked of a bundle of every method: the same named error, whoever would have to do it."""

import io

import numpy as np
import pydicom
import pytest
from builders import make_mr, make_pixels
from pydantic import ValidationError
from tiny_bundle import METHODS, pack_tiny

from reacquire.bundles.manifest import InversionSetup
from reacquire.engine import Pipeline, load_pipeline
from reacquire.errors import InputError, PixelError, ReacquireError, TargetError
from reacquire.jobs.spec import OperationSpec, Options

UNSEEN = {"ManufacturerModelName": ["Trio"]}
SLICE = make_mr()
CASES: dict[str, tuple[dict, list[bytes], type[ReacquireError]]] = {
    "a model of another manufacturer": (
        {"Manufacturer": "SIEMENS", "ManufacturerModelName": "SIGNA HDx"},
        [SLICE],
        TargetError,
    ),
    "a scanner nobody knows": ({"ManufacturerModelName": "Magnetom Seven"}, [SLICE], TargetError),
    "a scanner that training never saw": ({"ManufacturerModelName": "Trio"}, [SLICE], TargetError),
    "a number out of range": ({"EchoTime": 99.0}, [SLICE], TargetError),
    "not a number": ({"EchoTime": float("nan")}, [SLICE], TargetError),
    "a field strength between two": ({"MagneticFieldStrength": 2.2}, [SLICE], TargetError),
    "no such parameter": ({"InversionTime": 100.0}, [SLICE], TargetError),
    "a constant slice": ({"EchoTime": 2.4}, [make_mr(np.full((48, 64), 9, np.uint16))], PixelError),
    "an empty slice": ({"EchoTime": 2.4}, [make_mr(np.zeros((48, 64), np.uint16))], PixelError),
    "no slice": ({"EchoTime": 2.4}, [], InputError),
}


@pytest.fixture(scope="module", params=[*METHODS, "direct, then tone"])
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    method, _, more = request.param.partition(", then ")
    return load_pipeline(pack_tiny(tmp_path_factory.mktemp("bundle"), method, unseen=UNSEEN, tone=more == "tone"))


@pytest.mark.parametrize("case", CASES)
def test_what_no_method_can_do_is_refused_by_name(pipeline: Pipeline, case: str) -> None:
    target, files, error = CASES[case]
    with pytest.raises(error) as caught:
        pipeline.prepare(OperationSpec(operation="counterfactual", target=target), files)
    assert caught.value.code in error.codes


@pytest.mark.parametrize("options", [{"steps": 0}, {"guidance_scale": -1.0}, {"samples": 0}, {"seed": -1}], ids=str)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValidationError):
        Options(**options)


@pytest.mark.parametrize("shape", [(16, 400), (400, 16)], ids=str)
def test_slices_of_extreme_shape_come_back_in_their_shape(pipeline: Pipeline, shape: tuple[int, int]) -> None:
    work = pipeline.prepare(
        OperationSpec(operation="counterfactual", target={"EchoTime": 2.4}), [make_mr(make_pixels(*shape))]
    )
    (raw,) = pipeline.run([work])
    outcome = pipeline.finish(work, raw)
    assert pydicom.dcmread(io.BytesIO(outcome.artifacts["counterfactual.dcm"])).pixel_array.shape == shape


def test_one_batch_may_ask_for_several_targets(pipeline: Pipeline) -> None:
    targets = ({"EchoTime": 2.4}, {"ManufacturerModelName": "Avanto"}, {})
    works = [pipeline.prepare(OperationSpec(operation="counterfactual", target=target), [SLICE]) for target in targets]
    for work, together in zip(works, pipeline.run(works), strict=True):
        (alone,) = pipeline.run([work])
        # inversion runs random weights many times over: rounding errors grow
        tolerance = 2e-2 if isinstance(pipeline.editor.setup, InversionSetup) else 1e-4
        np.testing.assert_allclose(together.edited, alone.edited, atol=tolerance)

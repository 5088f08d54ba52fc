"""What may be asked of the models: one operation on the slices of one series, as a wire format.

Service, worker and command line share these classes; unknown keys are refused everywhere.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Operation = Literal["counterfactual", "segment", "predict-iap"]
SamplerName = Literal["ddim", "ancestral", "dpmpp-2m"]
HeaderValues = Literal["target", "source", "blank"]
OutputClass = Literal["mr", "secondary-capture"]
SegmentationType = Literal["binary", "labelmap", "fractional"]


def _text_or_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("a parameter's value is a text or a number")
    return value


TargetValue = Annotated[str | float, BeforeValidator(_text_or_number)]


class Strict(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Options(Strict):
    """How results are made and written; what is None follows the bundle's own tuned value."""

    sampler: SamplerName | None = Field(None, description="solver of the reverse diffusion")
    steps: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, description="steps through noise")
    guidance_scale: Annotated[float, Field(ge=0, le=20)] | None = Field(
        None, description="w of classifier-free guidance (Algorithm 1; 1 means none); of structure: times its change"
    )
    noise: bool | None = Field(None, description="whether a direct edit shows the noise of the target acquisition")
    samples: int = Field(1, ge=1, le=8, description="several counterfactuals: their mean and spread are written too")
    seed: int = Field(0, ge=0, lt=2**63, description="the same seed, slice and bundle give the same pixels")
    header_values: HeaderValues = Field("target", description="acquisition values written into the synthetic header")
    watermark: bool = Field(False, description="burn SYNTHETIC - NOT FOR DIAGNOSIS into the pixels")
    allow_synthetic: bool = Field(False, description="accept an input that is itself marked as synthetic")
    output_class: OutputClass = Field(
        "mr", description="SOP class of counterfactuals: MR images, or secondary captures that no MR receiver takes"
    )
    segmentation_type: SegmentationType = Field(
        "binary", description="DICOM SEG of whole pixels, of one label per pixel, or of the network's probabilities"
    )
    report: bool = Field(False, description="predict-iap also writes its result as a DICOM SR, report.dcm")


class OperationSpec(Strict):
    """One operation, its target parameters by DICOM keyword (counterfactual only) and its options."""

    operation: Operation
    target: dict[str, TargetValue] = Field(default_factory=dict, description="parameters to change, by DICOM keyword")
    options: Options = Field(default_factory=Options)

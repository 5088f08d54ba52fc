"""Predicted acquisition parameters beside those of the header, as a DICOM SR (TID 1500 in Comprehensive 3D SR).

Numbers are measurements, names are qualitative evaluations; a modifier "Derivation" tells what the pixels show from
what the header states. Built by highdicom from stand-ins (``standin``), imported on first use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from reacquire.dicom import codes
from reacquire.dicom.quiet import neutral_warnings
from reacquire.dicom.read import SliceImage
from reacquire.dicom.standin import adopt, stand_ins
from reacquire.dicom.synthetic import MANUFACTURER, now, plain, series_number
from reacquire.dicom.uids import derive_uid
from reacquire.dicom.write import serialise

Value = str | float


@dataclass(frozen=True)
class Finding:
    """One acquisition parameter.

    Attributes
    ----------
    keyword : str
        DICOM keyword, one of ``codes.PARAMETERS``.
    predicted : str or float
        What the pixels show.
    probability : float or None
        Of a predicted category, 0 to 1; None for continuous parameters.
    header : str or float or None
        What the header states; None when it is absent or differs between the slices.
    unit : str or None
        UCUM unit of numbers.
    """

    keyword: str
    predicted: Value
    probability: float | None = None
    header: Value | None = None
    unit: str | None = None


def write_report(
    sources: Sequence[SliceImage],
    findings: Sequence[Finding],
    *,
    algorithm: tuple[str, str],
    settings: Mapping[str, str] | None = None,
    uid_root: str | None = None,
    created: datetime | None = None,
) -> bytes:
    """One report on the slices of one series.

    Parameters
    ----------
    sources : sequence of SliceImage
        The slices that were looked at; the report refers to these only.
    algorithm : (str, str)
        Name and version.
    settings : mapping or None
        What else identifies the algorithm, as texts by name.
    uid_root : str or None
        The site's own root for UIDs.
    created : datetime or None
        Time of creation, now (UTC) when None. UIDs do not depend on it.

    Returns
    -------
    bytes
        A Part 10 file, unverified and preliminary: nobody has read it.
    """
    headers = [source.header for source in sources]
    identity = (sorted(h.sop_instance_uid for h in headers), algorithm, dict(settings or {}))
    key = (*identity, [asdict(finding) for finding in findings])
    with neutral_warnings():
        evidence = stand_ins(headers)
        built = _document(evidence, _content(evidence, findings, identity, uid_root), key, uid_root)
        built.SeriesNumber = 7000 + series_number(headers[0].dataset)
        built.CodingSchemeIdentificationSequence = codes.scheme_identification()
        return serialise(adopt(built, headers, created=created or now(), uid_root=uid_root))


def _document(evidence: list[Dataset], content: Any, key: tuple[Any, ...], root: str | None) -> Dataset:
    import highdicom as hd

    algorithm: tuple[str, str] = key[1]
    return hd.sr.Comprehensive3DSR(
        evidence=evidence,
        content=content[0],
        series_instance_uid=derive_uid("report series", *key, root=root),
        series_number=1,
        sop_instance_uid=derive_uid("report", *key, root=root),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=algorithm[0][:64],
        software_versions=algorithm[1][:64],
        series_description="AI SR breast MR, acquisition parameters from pixels and header",
        is_complete=True,
        is_final=False,
        is_verified=False,
    )


def _content(evidence: list[Dataset], findings: Sequence[Finding], identity: tuple[Any, ...], root: str | None) -> Any:
    """TID 1500: who observed, on which images (TID 1600), and one group of measurements (TID 1501)."""
    import highdicom as hd

    _, (name, version), settings = identity
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", name, version, root=root),
        name=name,
        manufacturer_name=MANUFACTURER,
        model_name=name,
    )
    observer = hd.sr.ObserverContext(
        observer_type=hd.sr.CodedConcept(*codes.DEVICE), observer_identifying_attributes=device
    )
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=derive_uid("report group", *identity, root=root), identifier="Acquisition parameters"
        ),
        algorithm_id=hd.sr.AlgorithmIdentification(
            name=name,
            version=version,
            parameters=[f"{k}: {v}" for k, v in sorted(settings.items())] or None,
            manufacturer=MANUFACTURER,
        ),
        source_images=[
            hd.sr.SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID) for image in evidence
        ],
        finding_sites=[hd.sr.FindingSite(Code(*codes.BREAST))],
        measurements=[m for f in findings for m in _measurements(f)],
        qualitative_evaluations=[e for f in findings for e in _evaluations(f)],
    )
    # The library states the thickness of each image, which a few sources do not know.
    library = evidence if all(image.SliceThickness is not None for image in evidence) else None
    return hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=Code(*codes.BREAST_MRI),
        imaging_measurements=[group],
        title=Code(*codes.MEASUREMENT_REPORT),
        referenced_images=library,
    )


def _values(finding: Finding) -> list[tuple[codes.Code, Value, float | None]]:
    """Derivation, value and probability of what the pixels show and, if any, of what the header states."""
    shown = [(codes.PREDICTED, finding.predicted, finding.probability)]
    return shown if finding.header is None else [*shown, (codes.STATED, finding.header, None)]


def _measurements(finding: Finding) -> list[Any]:
    import highdicom as hd

    found = []
    for derivation, value, probability in _values(finding):
        if isinstance(value, str):
            continue
        measurement = hd.sr.Measurement(
            name=Code(*codes.PARAMETERS[finding.keyword]),
            value=value,
            unit=Code(*codes.UNITS[finding.unit]),
            derivation=Code(*derivation),
        )
        found.append(_with_probability(measurement, probability))
    return found


def _evaluations(finding: Finding) -> list[Any]:
    import highdicom as hd

    found = []
    for derivation, value, probability in _values(finding):
        if not isinstance(value, str):
            continue
        evaluation = hd.sr.QualitativeEvaluation(
            name=Code(*codes.PARAMETERS[finding.keyword]), value=Code(*_category(value))
        )
        modifier = hd.sr.CodeContentItem(
            name=Code(*codes.DERIVATION), value=Code(*derivation), relationship_type="HAS CONCEPT MOD"
        )
        evaluation[0].ContentSequence = hd.sr.ContentSequence([modifier])
        found.append(_with_probability(evaluation, probability))
    return found


def _with_probability(template: Any, probability: float | None) -> Any:
    """The probability of a category as a property of the very item that states it."""
    import highdicom as hd

    if probability is not None:
        item = hd.sr.NumContentItem(
            name=Code(*codes.PROBABILITY),
            value=round(probability, 6),
            unit=Code(*codes.UNITS[None]),
            relationship_type="HAS PROPERTIES",
        )
        template[0].ContentSequence.append(item)
    return template


def _category(value: str) -> codes.Code:
    """A category as a code of the own scheme, the DICOM value itself."""
    text = plain(value)[:64].strip()
    return text, codes.OWN_SCHEME, text

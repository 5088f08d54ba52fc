"""Everything Reacquire refuses, as one exception tree with stable codes.

    ReacquireError
    +-- InputError                what was sent cannot be processed
    |   +-- ContainerError        not a DICOM Part 10 file, or an archive we do not open
    |   +-- DatasetError          a DICOM file whose data set is broken or incomplete
    |   +-- PixelError            pixel data that cannot be decoded or used
    |   +-- SuitabilityError      a sound DICOM file of the wrong kind
    |   +-- TargetError           a request for parameters that cannot be met
    +-- BundleError               weights that must not be loaded
    +-- JobError                  a job in the wrong state
    +-- OverloadedError           no capacity now
    +-- PacsError                 a PACS, or what we may do with it
    |   +-- PacsOutage            it is out of reach now; the same may work later
    +-- AccessError               who asks has not shown that it may

A code is the suffix of the problem type (RFC 9457) and the key of the service's status table; it never changes.
The detail names a tag and a rule, never a value from a header (values identify patients).
"""

from typing import ClassVar


class ReacquireError(Exception):
    """Root of the tree.

    Parameters
    ----------
    detail : str
        What is wrong and what to do about it, free of header values.
    code : str
        One of ``codes`` of the class; its first one by default.
    where : str or None
        DICOM keyword or JSON pointer that the error is about.
    """

    codes: ClassVar[tuple[str, ...]] = ("internal-error",)

    def __init__(self, detail: str, *, code: str | None = None, where: str | None = None) -> None:
        super().__init__(detail)
        self.code = self.codes[0] if code is None else code
        if self.code not in self.codes:
            raise ValueError(f"{type(self).__name__} has no code {self.code!r}; it has {self.codes}")
        self.detail = detail
        self.where = where


class InputError(ReacquireError):
    codes: ClassVar[tuple[str, ...]] = ("invalid-request",)


class ContainerError(InputError):
    codes: ClassVar[tuple[str, ...]] = (
        "not-dicom",
        "empty-body",
        "unsupported-container",
        "not-part10",
        "unsafe-preamble",
        "too-large",
        "unsafe-archive",
        "dicomdir-not-accepted",
        "unsupported-transfer-syntax",
        "decompression-limit",
    )


class DatasetError(InputError):
    codes: ClassVar[tuple[str, ...]] = (
        "missing-attribute",
        "corrupt-dataset",
        "dataset-too-deep",
        "dataset-too-large",
        "missing-geometry",
        "invalid-uid",
        "invalid-attribute-value",
        "inconsistent-series",
        "duplicate-instance",
        "charset",
    )


class PixelError(InputError):
    codes: ClassVar[tuple[str, ...]] = (
        "corrupt-pixels",
        "truncated-pixels",
        "no-pixels",
        "image-too-large",
        "invalid-image-attributes",
        "unsupported-photometric",
        "lossy-source",
        "degenerate-image",
    )


class SuitabilityError(InputError):
    codes: ClassVar[tuple[str, ...]] = (
        "unsupported-modality",
        "unsupported-body-part",
        "unsupported-orientation",
        "unsupported-image-type",
        "already-synthetic",
    )


class TargetError(InputError):
    codes: ClassVar[tuple[str, ...]] = ("target-out-of-domain", "target-unsupported")


class BundleError(ReacquireError):
    codes: ClassVar[tuple[str, ...]] = ("bundle-invalid", "model-not-found", "model-unavailable", "activation-failed")


class JobError(ReacquireError):
    codes: ClassVar[tuple[str, ...]] = (
        "job-not-found",
        "job-not-finished",
        "job-finished",
        "job-cancelled",
        "job-expired",
        "job-failed",
        "idempotency-mismatch",
        "not-acceptable",
    )


class OverloadedError(ReacquireError):
    codes: ClassVar[tuple[str, ...]] = ("overloaded", "not-ready")


class PacsError(ReacquireError):
    codes: ClassVar[tuple[str, ...]] = (
        "pacs-refused",
        "pacs-answer-invalid",
        "source-not-found",
        "pacs-not-allowed",
        "store-failed",
    )


class PacsOutage(PacsError):
    """``wait_s``: how long the PACS asked us to leave it alone (Retry-After), if it did."""

    codes: ClassVar[tuple[str, ...]] = ("pacs-unreachable",)

    def __init__(self, detail: str, *, code: str | None = None, wait_s: float | None = None) -> None:
        super().__init__(detail, code=code)
        self.wait_s = wait_s


class AccessError(ReacquireError):
    codes: ClassVar[tuple[str, ...]] = ("unauthorized", "forbidden", "rate-limited")


def every_code() -> frozenset[str]:
    """Every code that any class of the tree can carry."""
    classes = [ReacquireError]
    for cls in classes:  # grows while it is walked: breadth first
        classes.extend(cls.__subclasses__())
    return frozenset(code for cls in classes for code in cls.codes)

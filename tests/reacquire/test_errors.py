"""The exception tree and its codes."""

import pytest

from reacquire.errors import PixelError, ReacquireError, every_code


def test_the_first_code_is_the_default() -> None:
    assert PixelError("x").code == "corrupt-pixels"


def test_codes_belong_to_their_class() -> None:
    with pytest.raises(ValueError, match="has no code"):
        PixelError("x", code="not-dicom")


def test_codes_are_fit_for_a_problem_type() -> None:
    assert all(code.replace("-", "").isalnum() and code.islower() for code in every_code())


def test_every_class_is_walked() -> None:
    assert {"internal-error", "target-out-of-domain", "bundle-invalid", "overloaded"} <= every_code()
    assert issubclass(PixelError, ReacquireError)

"""The table of bad input (docs/problems.md), row by row: its status and type, and the tests that hold each row up.

Rows are numbered as in the specification; the cases of ``bad_input`` begin with the number of their row.
"""

import re
from pathlib import Path

import pytest
from bad_input import CASES
from fuzz.harness import http_client

from service.errors import STATUS

TESTS = Path(__file__).resolve().parents[2]
# known only after decoding, or accepted
NEEDS_A_WORKER = re.compile(r"14(?! declared RLE)|16 J2K of|17|23|8 enc|10 no fragment|3 zip")

# row: (HTTP status, problem types)
TABLE: dict[int, tuple[int, frozenset[str]]] = {
    row: (status, frozenset(types.split()))
    for row, status, types in (
        (1, 400, "empty-body"),
        (2, 415, "not-dicom"),
        (3, 415, "unsupported-container"),
        (4, 415, "not-part10"),
        (5, 422, "unsafe-preamble"),
        (6, 413, "too-large"),
        (7, 422, "missing-attribute"),
        (8, 422, "truncated-pixels"),
        (9, 422, "no-pixels"),
        (10, 422, "truncated-pixels"),
        (11, 422, "corrupt-dataset"),
        (12, 415, "unsupported-transfer-syntax"),
        (13, 415, "unsupported-transfer-syntax"),
        (14, 422, "corrupt-pixels"),
        (15, 413, "decompression-limit"),
        (16, 413, "image-too-large"),
        (17, 422, "corrupt-pixels"),
        (18, 422, "invalid-image-attributes"),
        (19, 422, "invalid-image-attributes"),
        (20, 422, "invalid-image-attributes"),
        (21, 422, "unsupported-photometric"),
        (22, 422, "lossy-source"),
        (23, 422, "degenerate-image"),
        (24, 422, "dataset-too-deep"),
        (25, 413, "dataset-too-large"),
        (26, 422, "unsupported-modality missing-attribute"),  # Modality may be absent as well
        (27, 422, "unsupported-body-part"),
        (28, 422, "unsupported-orientation"),
        (29, 422, "unsupported-image-type"),
        (30, 422, "missing-geometry"),
        (31, 422, "inconsistent-series"),
        (32, 409, "duplicate-instance"),
        (33, 409, "already-synthetic"),
        (34, 422, "invalid-attribute-value"),
        (35, 200, ""),
        (36, 422, "target-out-of-domain"),
        (37, 422, "invalid-uid"),
        (38, 422, "unsafe-archive"),
        (39, 415, "dicomdir-not-accepted"),
        (42, 422, "charset"),
        (43, 503, "overloaded"),
    )
}
# Rows 40 and 41 have several statuses.
PACS = {"source-not-found": 404, "pacs-unreachable": 502, "pacs-not-allowed": 403}

# What is not one file and one code: the test that holds it.
ELSEWHERE: dict[int, tuple[str, ...]] = {
    6: (
        "reacquire/dicom/test_dicom_refusals.py::test_row_6_a_file_over_the_cap_is_too_large",
        "reacquire/dicom/test_dicom_archive.py::test_unsafe_uploads_get_their_code",
        "service/test_operations.py::test_a_body_longer_than_it_said_is_cut_off",
    ),
    22: ("reacquire/dicom/test_dicom_read.py::test_row_22_inherited_loss_is_a_warning",),
    27: ("reacquire/dicom/test_dicom_read.py::test_row_27_an_absent_body_part_is_a_warning",),
    31: ("reacquire/dicom/test_dicom_series.py::test_files_that_do_not_belong_together_are_refused",),
    32: ("service/test_operations.py::test_two_files_of_one_uid_are_a_conflict_and_one_file_twice_is_not",),
    33: ("reacquire/dicom/test_dicom_read.py::test_row_33_synthetic_input_is_read_when_allowed",),
    35: ("reacquire/dicom/test_dicom_read.py::test_row_35_absent_and_empty_parameters_are_unknown",),
    36: (
        "reacquire/iap/test_vocabulary.py::test_targets_outside_the_vocabulary_are_refused",
        "service/test_operations.py::test_a_bad_form_is_refused_before_a_job_exists",
    ),
    38: ("reacquire/dicom/test_dicom_archive.py::test_unsafe_uploads_get_their_code",),
    40: (
        "gateway/test_courier.py::test_what_cannot_be_fetched_fails_by_name",
        "gateway/test_courier.py::test_patience_ends",
        "gateway/test_courier.py::test_what_the_pacs_does_not_take_is_named",
    ),
    41: ("gateway/test_courier.py::test_what_cannot_be_fetched_fails_by_name",),
    42: ("reacquire/dicom/test_dicom_read.py::test_row_42_an_unknown_charset_is_a_warning",),
    43: ("service/test_operations.py::test_a_full_queue_says_when_to_come_back",),
}


def row_of(case: str) -> int:
    return int(case.split(" ", 1)[0])


@pytest.mark.parametrize(("case", "code"), [(case, code) for case, (_, code) in CASES.items()], ids=CASES)
def test_each_case_has_the_status_and_type_of_its_row(case, code):
    status, types = TABLE[row_of(case)]
    assert code in types
    assert STATUS[code] == status


def test_every_type_of_the_table_has_its_status():
    for status, types in TABLE.values():
        assert {STATUS[code] for code in types} <= {status}
    assert {code: STATUS.get(code) for code in PACS} == PACS


@pytest.mark.parametrize("row", range(1, 44))
def test_every_row_is_held_by_a_case_or_a_test(row):
    cases = [case for case in CASES if row_of(case) == row]
    assert cases or row in ELSEWHERE
    for test in ELSEWHERE.get(row, ()):
        file, name = test.split("::")
        assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8"), test


@pytest.fixture(scope="module")
def api():
    with http_client() as client:
        yield client


@pytest.mark.parametrize("case", CASES)
def test_the_api_answers_with_the_problem_of_the_row(api, case):
    """What only decoding can find is accepted here and fails the job (tests/integration): the same code, later."""
    data, code = CASES[case]
    answer = api.request("POST", "/v1/segment", files={"dicom": ("x.dcm", data)}, headers={"Prefer": "respond-async"})
    if NEEDS_A_WORKER.match(case):
        assert answer.status_code == 202
        return
    assert (answer.status_code, answer.json()["type"]) == (TABLE[row_of(case)][0], f"/problems/{code}")
    assert answer.headers["content-type"] == "application/problem+json"

"""The documentation side of the API: examples and the answers that every handler can give."""

from typing import Any

from service.errors import PROBLEM
from service.schemas import Job, Problem

TARGET_EXAMPLE = '{"MagneticFieldStrength": 3.0, "EchoTime": 2.4, "RepetitionTime": 6.5}'
OPTIONS_EXAMPLE = '{"steps": 20, "seed": 7}'

DESCRIPTION = """
What an MR image would have looked like under other acquisition parameters, with the anatomy untouched.

    curl -F dicom=@slice.dcm -F 'target={"MagneticFieldStrength": 3.0}' -H 'Prefer: wait=60' \\
         http://127.0.0.1:8000/counterfactual -o counterfactual.dcm -w '%{http_code}'
    curl -F dicom=@slice.dcm http://127.0.0.1:8000/predict-iap

A 200 is the result; a 202 is the job as JSON, to be followed at `links.events` and fetched from `links.result`.

Research use only: every image made here is marked as synthetic and must not be used for diagnosis. Errors are
RFC 9457 problem details with stable codes.
"""


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "model": Problem, "content": {PROBLEM: {}}}


_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_RESULT: dict[str, Any] = {
    "description": "the result",
    "content": {
        "application/dicom": _BINARY,
        "image/png": _BINARY,
        "application/zip": _BINARY,
        "application/json": {"schema": {"type": "object"}},
    },
}

OPERATION_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _RESULT,
    202: {"description": "accepted; follow Location", "model": Job},
    400: _problem("empty or unreadable body"),
    403: _problem("no such PACS in the configuration"),
    404: _problem("no such bundle; or the PACS has no such series (when the answer is the result)"),
    406: _problem("the result has no form that Accept allows"),
    409: _problem("already synthetic, or contradicting instances"),
    413: _problem("too large"),
    415: _problem("not DICOM, or a transfer syntax without a decoder"),
    422: _problem("sound, but not something this service can work on"),
    502: _problem("the PACS cannot be reached, or refuses (when the answer is the result)"),
    503: _problem("no capacity now; see Retry-After"),
}

JOB_RESPONSES: dict[int | str, dict[str, Any]] = {
    404: _problem("no such job"),
    409: _problem("the job is in the wrong state"),
    410: _problem("the result is past its time to live"),
    503: _problem("the job store cannot be reached"),
}

RESULT_RESPONSES: dict[int | str, dict[str, Any]] = {200: _RESULT, 406: OPERATION_RESPONSES[406]}

HOOK_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"description": "accepted; the job lists what the rules start", "model": Job},
    401: _problem("the token is missing or wrong"),
    403: _problem("no such site"),
    422: _problem("not a UID, or no such field"),
    503: OPERATION_RESPONSES[503],
}

# The second body of the operations; service.routes.pacs.FromPacs checks it.
JSON_BODY: dict[str, Any] = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "a series of a configured PACS instead of files",
                    "required": ["dicomweb"],
                    "additionalProperties": False,
                    "properties": {
                        "dicomweb": {
                            "type": "object",
                            "required": ["study", "series"],
                            "additionalProperties": False,
                            "properties": {
                                "site": {"type": "string", "description": "needed when there are several"},
                                "study": {"type": "string", "description": "StudyInstanceUID"},
                                "series": {"type": "string", "description": "SeriesInstanceUID"},
                                "instances": {"type": "array", "items": {"type": "string"}},
                            },
                        },
                        "target": {"type": "object", "description": "counterfactual only"},
                        "options": {"type": "object"},
                        "return": {"type": "boolean", "default": True, "description": "store the results there"},
                    },
                },
                "examples": {"a series": {"value": {"dicomweb": {"study": "2.25.1", "series": "2.25.2"}}}},
            }
        }
    }
}

"""``python main_job.py URL SLICE SECONDS``: the main job through a running API, with nothing but the standard library.

Run by ``helm test``; useful by hand as well. Ends with status 0 when a counterfactual came back that is marked as
synthetic, else with 1 and a line that says what was missing. An API key or access token comes from REACQUIRE_TOKEN.
"""

import json
import os
import struct
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

TARGET = {"EchoTime": 2.4}
OPTIONS = {"allow_synthetic": True, "seed": 1}  # the rest as the bundle has it
SYNTHETIC_DATA = (
    struct.pack("<HH", 0x0008, 0x001C) + b"CS" + struct.pack("<H", 4) + b"YES "
)  # PS3.3 C.12.1, PS3.5 7.1.2


def form(slice_: bytes, fields: dict[str, str]) -> tuple[bytes, str]:
    """(body, content type) of a multipart/form-data request (RFC 7578)."""
    mark = uuid.uuid4().hex
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{mark}\r\nContent-Disposition: form-data; name="dicom"; filename="slice.dcm"\r\n'
    parts.append(head.encode() + b"Content-Type: application/dicom\r\n\r\n" + slice_ + b"\r\n")
    return b"".join(parts) + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def ask(url: str, token: str, body: bytes | None = None, **headers: str) -> bytes:
    """The body of the answer; RuntimeError with the problem's text for any status that is not a success."""
    request = urllib.request.Request(url, body, {name.replace("_", "-"): value for name, value in headers.items()})
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{url} answered {error.code}: {error.read().decode(errors='replace')}") from error


def main_job(api: str, slice_: bytes, patience_s: float, token: str = "") -> str:
    """Submit, wait, fetch, with a login if there is a ``token``; a line that says what came back.

    Raises
    ------
    RuntimeError
        When a request is refused, the job fails or is not done in time, or the result is not what it must be.
    """
    body, kind = form(slice_, {"target": json.dumps(TARGET), "options": json.dumps(OPTIONS)})
    started = time.monotonic()
    job: dict[str, Any] = json.loads(ask(f"{api}/v1/counterfactual", token, body, Content_Type=kind))
    while job["status"] in ("queued", "running"):
        if time.monotonic() - started > patience_s:
            raise RuntimeError(f"the job is still {job['status']} after {patience_s:.0f} s; is a worker ready?")
        time.sleep(1)
        job = json.loads(ask(f"{api}/v1/jobs/{job['id']}", token))
    if job["status"] != "succeeded":
        raise RuntimeError(f"the job ended as {job['status']}: {json.dumps(job.get('error'))}")
    result = ask(f"{api}/v1/jobs/{job['id']}/result", token, Accept="application/dicom")
    if result[128:132] != b"DICM" or SYNTHETIC_DATA not in result:
        raise RuntimeError("the result is not a DICOM file that is marked as synthetic")
    return f"counterfactual of {len(result)} bytes, marked as synthetic, after {time.monotonic() - started:.1f} s"


if __name__ == "__main__":
    address, path, seconds = sys.argv[1:]
    try:
        login = os.environ.get("REACQUIRE_TOKEN", "").strip()  # a Secret made from a file ends with a line break
        print(main_job(address.rstrip("/"), Path(path).read_bytes(), float(seconds), login))  # noqa: T201
    except (RuntimeError, OSError) as failure:
        sys.exit(str(failure))

"""A DICOMweb client (PS3.18): QIDO-RS, WADO-RS, STOW-RS. Bytes in, bytes out; what is parsed is up to our own limits.

``PacsOutage`` is raised for what may work later (no connection, time-out, 408, 429, 5xx) after bounded retries; another
error is permanent and raised at once. No message holds an address or a UID, and foreign exceptions, which do, end here.
"""

import email.utils
import json
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from reacquire.dicom.limits import DEFAULT, Limits
from reacquire.errors import ContainerError, PacsError, PacsOutage
from reacquire.pacs.config import Site
from reacquire.pacs.multipart import PartCaps, boundary_of, read_parts, write_parts
from reacquire.pacs.reference import SeriesReference

DICOM_JSON = "application/dicom+json"
INSTANCES = 'multipart/related; type="application/dicom"; transfer-syntax=*'  # as stored; a bare type is 400 at Orthanc
JSON_BYTES = 2**26  # metadata of 600 instances take some 12 MB
PAGE, MOST_LISTED = 1000, 1_000_000
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0

STUDY_INSTANCE_UID, SERIES_INSTANCE_UID = "0020000D", "0020000E"
SOP_INSTANCE_UID, REFERENCED_SOP_INSTANCE_UID = "00080018", "00081155"
FAILURE_REASON, FAILED, REFERENCED = "00081197", "00081198", "00081199"  # PS3.18 10.5.3, store instances response

T = TypeVar("T")


@dataclass(frozen=True)
class StoreResult:
    """What STOW-RS said of one instance; ``reason`` is its FailureReason (PS3.18 table 10.5.1-1), if it gave one."""

    stored: bool
    reason: int | None = None


class DicomwebClient:
    """One conversation with one site; ``timeouts.total_s`` bounds all of it. Not safe to share between threads.

    Parameters
    ----------
    site : Site
        Where, and how patiently.
    secret : str or None
        The password or the token that ``site.auth`` names; reading it is the caller's business.
    limits : Limits
        The most that an answer may hold.
    sleep, clock : callable
        For tests.
    """

    def __init__(
        self,
        site: Site,
        secret: str | None = None,
        *,
        limits: Limits = DEFAULT,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site, self._limits = site, limits
        self._sleep, self._clock = sleep, clock
        self._deadline = clock() + site.timeouts.total_s
        self._base = str(site.base_url).rstrip("/")
        self._http = httpx.Client(
            auth=httpx.BasicAuth(site.auth.username or "", secret or "") if site.auth.kind == "basic" else None,
            headers={"Accept-Encoding": "identity"}
            | ({"Authorization": f"Bearer {secret}"} if site.auth.kind == "bearer" else {}),
            verify=tls_context(site),
            follow_redirects=False,  # whoever answers for the PACS must not send us, and our password, elsewhere
            trust_env=False,  # neither a proxy that would see UIDs nor a .netrc
        )

    def __enter__(self) -> "DicomwebClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def series_metadata(self, reference: SeriesReference) -> list[dict[str, Any]]:
        """The DICOM JSON of every instance of a series (WADO-RS metadata, PS3.18 10.4).

        Raises
        ------
        PacsError
            ``source-not-found`` when the PACS has no such series.
        """
        found = self._retried(lambda: self._json(f"{_series(reference.study, reference.series)}/metadata"))
        if not found:
            raise _not_found()
        return found

    def fetch(self, reference: SeriesReference) -> Iterator[bytes]:
        """The Part 10 files of a series, or of the named instances, as the PACS stores them (WADO-RS).

        Retries end with the first byte of an answer: a stream that breaks off later raises ``PacsOutage``, and the
        caller begins anew.

        Raises
        ------
        ContainerError
            ``too-large`` when there is more than the limits allow.
        """
        path = _series(reference.study, reference.series)
        caps = PartCaps(self._limits.instances, self._limits.instance_bytes, self._limits.series_bytes)
        found = 0
        for one in [f"{path}/instances/{uid}" for uid in reference.instances] or [path]:
            with self._opened(one) as answer:
                for data in read_parts(boundary_of(answer.headers.get("content-type", "")), self._raw(answer), caps):
                    found += 1
                    yield data
        if not found:
            raise _not_found()

    def instances(self, study: str, series: str) -> set[str]:
        """The SOPInstanceUIDs that the PACS lists for a series (QIDO-RS); empty when it knows no such series."""
        found = self._paged(f"{_series(study, series)}/instances?", most=2 * self._limits.instances)
        return {_text(item, SOP_INSTANCE_UID) for item in found} - {""}

    def series(self, study: str | None = None, *, modality: str = "MR") -> Iterator[tuple[str, str]]:
        """StudyInstanceUID and SeriesInstanceUID of every series of a modality, of one study or of all (QIDO-RS)."""
        path = f"studies/{study}/series" if study else "series"
        told: set[tuple[str, str]] = set()
        for item in self._paged(f"{path}?Modality={modality}&"):
            found = _text(item, STUDY_INSTANCE_UID) or study or "", _text(item, SERIES_INSTANCE_UID)
            if all(found) and found not in told:
                told.add(found)
                yield found

    def _paged(self, path: str, *, most: int = MOST_LISTED) -> Iterator[dict[str, Any]]:
        """The items of a search, page by page, until a page is not full or repeats the one before it."""
        before: list[dict[str, Any]] = []
        for offset in range(0, most, PAGE):
            page = self._retried(partial(self._json, f"{path}limit={PAGE}&offset={offset}"))
            if page == before:  # a PACS that ignores the offset
                return
            yield from page
            if len(page) < PAGE:
                return
            before = page

    def store(self, study: str, files: Mapping[str, bytes]) -> dict[str, StoreResult]:
        """Store Part 10 files, by SOPInstanceUID, in one request (STOW-RS); what became of each.

        Judged by ReferencedSOPSequence and FailedSOPSequence alone: a mixed request answers 400 although the good
        instances are stored. A request that is refused as a whole is repeated file by file.
        """
        results = self._retried(lambda: self._store(study, files))
        if results is not None:
            return {uid: results.get(uid, StoreResult(stored=False)) for uid in files}
        if len(files) == 1:
            return {uid: StoreResult(stored=False) for uid in files}
        return {u: result for uid, data in files.items() for u, result in self.store(study, {uid: data}).items()}

    def _store(self, study: str, files: Mapping[str, bytes]) -> dict[str, StoreResult] | None:
        kind, length, body = write_parts(list(files.values()))
        headers = {"Content-Type": kind, "Content-Length": str(length), "Accept": DICOM_JSON}
        with self._sent("POST", f"studies/{study}", headers=headers, content=body) as answer:
            if answer.status_code in (401, 403) or answer.is_redirect:
                raise _refusal(answer)
            try:
                document = json.loads(_limited(self._raw(answer), JSON_BYTES))
                failed = {_text(i, REFERENCED_SOP_INSTANCE_UID): _number(i) for i in _items(document, FAILED)}
                stored = {_text(i, REFERENCED_SOP_INSTANCE_UID) for i in _items(document, REFERENCED)}
            except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
                return None
        if not failed and not stored:
            return None
        results = {uid: StoreResult(stored=True) for uid in stored}
        return results | {uid: StoreResult(stored=False, reason=reason) for uid, reason in failed.items()}

    def _json(self, path: str) -> list[dict[str, Any]]:
        with self._sent("GET", path, headers={"Accept": DICOM_JSON}) as answer:
            if answer.status_code in (204, 404):  # no match (PS3.18 10.6.3.2); no such series
                return []
            if answer.status_code != 200:
                raise _refusal(answer)
            try:
                found = json.loads(_limited(self._raw(answer), JSON_BYTES))
            except (ValueError, RecursionError):
                found = None
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise PacsError("the PACS did not answer with DICOM JSON", code="pacs-answer-invalid")
        return found

    @contextmanager
    def _opened(self, path: str) -> Iterator[httpx.Response]:
        """An answer with instances, its body not read yet."""
        request = self._http.build_request("GET", f"{self._base}/{path}", headers={"Accept": INSTANCES})
        answer = self._retried(lambda: self._send(request))
        try:
            if answer.status_code in (204, 404):
                raise _not_found()
            if answer.status_code != 200:
                raise _refusal(answer)
            yield answer
        finally:
            answer.close()

    @contextmanager
    def _sent(self, method: str, path: str, **what: Any) -> Iterator[httpx.Response]:
        answer = self._send(self._http.build_request(method, f"{self._base}/{path}", **what))
        try:
            yield answer
        finally:
            answer.close()

    def _send(self, request: httpx.Request) -> httpx.Response:
        """One try; the answer's body is still to be read."""
        times, left = self._site.timeouts, self._left()
        timeout = httpx.Timeout(min(times.read_s, left), connect=min(times.connect_s, left))
        request.extensions["timeout"] = timeout.as_dict()
        with translated():
            answer = self._http.send(request, stream=True)
        if answer.status_code in (408, 429) or (answer.status_code >= 500 and answer.status_code != 501):
            answer.close()
            raise PacsOutage(f"the PACS answered HTTP {answer.status_code}", wait_s=retry_after(answer.headers))
        return answer

    def _raw(self, answer: httpx.Response) -> Iterator[bytes]:
        """The body as it comes, undecoded: we asked for no compression, and a bomb stays one."""
        with translated():
            for chunk in answer.iter_raw():
                self._left()
                yield chunk

    def _left(self) -> float:
        left = self._deadline - self._clock()
        if left <= 0:
            raise PacsOutage("the PACS took longer than this site's total time-out")
        return left

    def _retried(self, attempt: Callable[[], T]) -> T:
        return Retrying(
            retry=retry_if_exception_type(PacsOutage),
            stop=lambda state: stop_after_attempt(self._site.attempts)(state) or self._too_late(state),
            wait=_wait_s,
            sleep=self._sleep,
            reraise=True,
        )(attempt)

    def _too_late(self, state: RetryCallState) -> bool:
        """Waiting would outlast the total time-out, or the PACS wants to be left alone for longer than we wait here."""
        asked = _asked_s(state)
        return asked > LONGEST_WAIT_S or self._clock() + asked >= self._deadline


def tls_context(site: Site) -> ssl.SSLContext | bool:
    """Whom we trust and who we are; True for the usual roots and no certificate of ours."""
    if site.tls.ca_file is None and site.tls.client_cert is None:
        return True
    context = ssl.create_default_context(cafile=site.tls.ca_file)
    if site.tls.client_cert is not None:
        context.load_cert_chain(site.tls.client_cert, site.tls.client_key)
    return context


@contextmanager
def translated() -> Iterator[None]:
    """Foreign errors of a request as ours; their texts and the request they hold stay behind."""
    try:
        yield
    except httpx.TimeoutException:
        raise PacsOutage("the PACS did not answer in time") from None
    except httpx.TransportError as error:
        certificate = isinstance(error.__cause__ and error.__cause__.__cause__, ssl.SSLCertVerificationError)
        if certificate or "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise PacsError("the PACS's certificate is not one that this site's tls.ca_file vouches for") from None
        raise PacsOutage("the PACS cannot be reached, or ended the connection") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError):
        raise PacsError("the answer of the PACS is not valid HTTP", code="pacs-answer-invalid") from None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for (RFC 9110 10.2.3: a number or a date); None when it says nothing sound."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 9:
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _asked_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return (error.wait_s or 0.0) if isinstance(error, PacsOutage) else 0.0


def _wait_s(state: RetryCallState) -> float:
    """Exponential back-off with jitter, or as long as the PACS asked for."""
    backed_off = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (state.attempt_number - 1))
    return max(_asked_s(state), backed_off * random.uniform(0.5, 1.0))


def _series(study: str, series: str) -> str:
    return f"studies/{study}/series/{series}"


def _not_found() -> PacsError:
    return PacsError("the PACS has no such series or instance", code="source-not-found")


def _refusal(answer: httpx.Response) -> PacsError:
    if answer.is_redirect:
        return PacsError("the PACS redirects; we follow none: set base_url to where it leads", code="pacs-refused")
    hint = "check this site's auth" if answer.status_code in (401, 403) else "it will do so again"
    return PacsError(f"the PACS refused with HTTP {answer.status_code}; {hint}", code="pacs-refused")


def _limited(chunks: Iterator[bytes], most: int) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > most:
            raise ContainerError("what the PACS sent is larger than this service accepts", code="too-large")
    return bytes(body)


def _items(document: Mapping[str, Any], tag: str) -> Sequence[Any]:
    """The items of a sequence in DICOM JSON (PS3.18 annex F)."""
    items: Sequence[Any] = document.get(tag, {}).get("Value", [])
    return items


def _text(item: Mapping[str, Any], tag: str) -> str:
    values = item.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _number(item: Mapping[str, Any]) -> int | None:
    values = item.get(FAILURE_REASON, {}).get("Value") or [None]
    return values[0] if isinstance(values[0], int) else None

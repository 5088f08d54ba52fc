"""The DICOMweb client against a PACS that is slow, down, broken, lying, redirecting or too talkative."""

import logging
import time
from dataclasses import replace

import httpx
import pytest
from builders import SECRET, make_mr
from fake_pacs import FakePacs, mr_series, running

from reacquire.dicom import Limits
from reacquire.errors import ContainerError, DatasetError, PacsError, PacsOutage, ReacquireError
from reacquire.pacs import Site
from reacquire.pacs.dicomweb import DicomwebClient, retry_after
from reacquire.pacs.reference import SeriesReference
from reacquire.pacs.secrets import read_secret

REFERENCE = SeriesReference("pacs", "1.2.3.2", "1.2.3.3")
FILES = mr_series(4)
UIDS = list(FILES)


@pytest.fixture
def pacs():
    return FakePacs.holding(FILES.values())


@pytest.fixture
def server(pacs):
    with running(pacs) as server:
        yield server


@pytest.fixture
def waits() -> list[float]:
    """What the client would have slept."""
    return []


@pytest.fixture
def connect(server, waits):
    opened = []

    def make(secret=None, limits=None, url=None, **site) -> DicomwebClient:
        told = {"base_url": url or server.url, "timeouts": {"connect_s": 2, "read_s": 2, "total_s": 20}} | site
        client = DicomwebClient(Site.model_validate(told), secret, limits=limits or Limits(), sleep=waits.append)
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__()


def refused(call) -> ReacquireError:
    with pytest.raises(ReacquireError) as caught:
        call()
    for uid in ("1.2.3", "127.0.0.1", "http"):
        assert uid not in caught.value.detail, "no address and no UID in an error"
    assert caught.value.__cause__ is None, "what httpx raised holds the address"
    return caught.value


def test_a_series_comes_as_it_is_stored(connect, pacs):
    assert sorted(connect().fetch(REFERENCE)) == sorted(FILES.values())
    assert pacs.requests[0][2]["Accept"] == 'multipart/related; type="application/dicom"; transfer-syntax=*'


def test_named_instances_come_alone(connect, pacs):
    assert list(connect().fetch(replace(REFERENCE, instances=(UIDS[2],)))) == [FILES[UIDS[2]]]


def test_metadata_is_dicom_json(connect):
    assert {item["00080018"]["Value"][0] for item in connect().series_metadata(REFERENCE)} == set(UIDS)


@pytest.mark.parametrize("call", [lambda c, r: list(c.fetch(r)), lambda c, r: c.series_metadata(r)])
def test_what_the_pacs_does_not_have_is_said_at_once(connect, waits, call):
    unknown = replace(REFERENCE, series="1.2.9")
    assert refused(lambda: call(connect(), unknown)).code == "source-not-found"
    assert waits == []
    assert connect().instances("1.2.9", "1.2.9") == set()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_trouble_is_waited_out(connect, pacs, waits, status):
    pacs.answers = [(status, {}), (status, {})]
    assert len(connect().series_metadata(REFERENCE)) == 4
    assert len(waits) == 2
    assert 0.2 < waits[0] < waits[1] < 2


@pytest.mark.parametrize("status", [400, 401, 403, 406, 415, 501])
def test_a_refusal_is_not_repeated(connect, pacs, status):
    pacs.answers = [(status, {})]
    assert refused(lambda: list(connect().fetch(REFERENCE))).code == "pacs-refused"
    assert len(pacs.requests) == 1


def test_tries_are_bounded(connect, pacs):
    pacs.answers = [(503, {})] * 10
    error = refused(lambda: connect(attempts=3).series_metadata(REFERENCE))
    assert (type(error), error.code, len(pacs.requests)) == (PacsOutage, "pacs-unreachable", 3)


def test_retry_after_is_honoured(connect, pacs, waits):
    pacs.answers = [(503, {"Retry-After": "7"})]
    connect().series_metadata(REFERENCE)
    assert waits == [7.0]


def test_a_long_retry_after_is_left_to_the_job(connect, pacs, waits):
    pacs.answers = [(503, {"Retry-After": "90"})]
    error = refused(lambda: connect().series_metadata(REFERENCE))
    assert (error.wait_s, waits) == (90.0, [])


def test_retry_after_may_be_a_date():
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({"retry-after": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 8))}) > 5
    assert retry_after({"retry-after": "soon"}) is None


def test_a_pacs_that_is_down_is_an_outage(connect):
    with running(FakePacs()) as other:
        gone = other.url
    assert isinstance(refused(lambda: list(connect(url=gone).fetch(REFERENCE))), PacsOutage)


def test_a_slow_pacs_is_an_outage(connect, pacs):
    pacs.delay_s = 0.3
    client = connect(timeouts={"connect_s": 1, "read_s": 0.1, "total_s": 20}, attempts=2)
    assert isinstance(refused(lambda: client.series_metadata(REFERENCE)), PacsOutage)


def test_the_total_time_bounds_everything(connect, pacs):
    pacs.delay_s = 0.1
    client = connect(timeouts={"connect_s": 1, "read_s": 5, "total_s": 0.25})
    started = time.monotonic()
    assert isinstance(refused(lambda: [client.series_metadata(REFERENCE) for _ in range(50)]), PacsOutage)
    assert time.monotonic() - started < 3


def test_a_stream_that_breaks_off_is_an_outage(connect, pacs):
    pacs.cut_after = 5000
    assert isinstance(refused(lambda: list(connect().fetch(REFERENCE))), PacsOutage)


def test_a_multipart_without_its_end_is_an_outage(connect, pacs):
    pacs.raw_body = b"--BOUND\r\nContent-Type: application/dicom\r\n\r\nDICM"
    assert isinstance(refused(lambda: list(connect().fetch(REFERENCE))), PacsOutage)


@pytest.mark.parametrize(
    "how", [{"content_type": "text/html"}, {"content_type": "multipart/related"}, {"raw_body": b"<html>no</html>"}]
)
def test_nonsense_is_said_to_be_nonsense(connect, pacs, how):
    for name, value in how.items():
        setattr(pacs, name, value)
    assert refused(lambda: list(connect().fetch(REFERENCE))).code == "pacs-answer-invalid"


@pytest.mark.parametrize("limits", [Limits(instances=3), Limits(instance_bytes=2000), Limits(series_bytes=10_000)])
def test_more_than_the_limits_is_cut_off(connect, limits):
    assert isinstance(refused(lambda: list(connect(limits=limits).fetch(REFERENCE))), ContainerError)


def test_a_redirect_is_never_followed(connect, pacs):
    elsewhere = FakePacs()
    with running(elsewhere) as other:
        pacs.answers = [(302, {"Location": f"{other.url}/studies"})]
        assert refused(lambda: list(connect().fetch(REFERENCE))).code == "pacs-refused"
    assert elsewhere.requests == []


def test_passwords_and_tokens_are_sent(connect, pacs):
    connect(auth={"kind": "bearer", "secret_env": "X"}, secret="t0ken").series_metadata(REFERENCE)
    assert pacs.requests[-1][2]["Authorization"] == "Bearer t0ken"
    pacs.password = "pw"
    basic = {"kind": "basic", "username": "svc", "secret_env": "X"}
    assert len(connect(auth=basic, secret="pw").series_metadata(REFERENCE)) == 4
    assert refused(lambda: connect(auth=basic, secret="wrong").series_metadata(REFERENCE)).code == "pacs-refused"


def test_an_unknown_certificate_is_a_matter_of_configuration(connect, tls_pacs):
    url, authority = tls_pacs
    error = refused(lambda: connect(url=url).series_metadata(REFERENCE))
    assert (type(error), error.code) == (PacsError, "pacs-refused")
    assert len(connect(url=url, tls={"ca_file": authority}).series_metadata(REFERENCE)) == 4


@pytest.fixture
def tls_pacs(pacs, tmp_path):
    """The same PACS behind a certificate of its own."""
    import ssl

    from certificates import self_signed

    public, private = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    server = pacs.start(tls=context)
    yield server.url.replace("http:", "https:"), str(public)
    server.stop()


def test_each_instance_is_judged_by_the_lists_of_the_answer(connect, pacs):
    pacs.instances.clear(), pacs.places.clear()
    pacs.refuses, pacs.stow_status = {UIDS[1]: 0x0110}, 400
    results = connect().store("1.2.3.2", FILES)
    assert {uid: (r.stored, r.reason) for uid, r in results.items()} == {
        uid: (uid != UIDS[1], 0x0110 if uid == UIDS[1] else None) for uid in UIDS
    }


def test_a_request_refused_as_a_whole_is_repeated_file_by_file(connect, pacs):
    pacs.answers = [(400, {})]
    pacs.refuses = {UIDS[0]: 1}
    results = connect().store("1.2.3.2", FILES)
    assert [uid for uid, r in results.items() if not r.stored] == [UIDS[0]]
    assert len(pacs.requests) == 5


def test_an_answer_without_lists_stores_nothing(connect, pacs):
    pacs.stow_mute, pacs.stow_status = True, 200
    assert not any(r.stored for r in connect().store("1.2.3.2", FILES).values())


def test_a_login_that_fails_is_not_tried_file_by_file(connect, pacs):
    pacs.answers = [(401, {})]
    assert refused(lambda: connect().store("1.2.3.2", FILES)).code == "pacs-refused"
    assert len(pacs.requests) == 1


def test_storing_outlasts_a_hiccup(connect, pacs):
    pacs.answers = [(503, {})]
    assert all(r.stored for r in connect().store("1.2.3.2", FILES).values())


def test_what_is_listed_is_read_page_by_page(connect, pacs, monkeypatch):
    monkeypatch.setattr("reacquire.pacs.dicomweb.PAGE", 2)
    assert connect().instances("1.2.3.2", "1.2.3.3") == set(UIDS)


@pytest.mark.parametrize("body", [b"[", b"{}", b'["a"]', b"[" * 100_000])
def test_metadata_that_is_no_dicom_json_is_refused(connect, pacs, monkeypatch, body):
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    client = connect()
    client._http._transport = transport
    client._http._mounts = {}
    assert refused(lambda: client.series_metadata(REFERENCE)).code == "pacs-answer-invalid"


def test_nothing_of_a_conversation_is_logged(connect, pacs, caplog):
    from reacquire.jobs.logs import TALKATIVE

    caplog.set_level("DEBUG")
    for name in TALKATIVE:
        caplog.set_level(logging.WARNING, logger=name)
    list(connect().fetch(REFERENCE))
    connect().store("1.2.3.2", FILES)
    pacs.answers = [(500, {})]
    connect().series_metadata(REFERENCE)
    assert "1.2.3" not in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("bad", ["", "1.2.3/../../x", "1.02", "a", "1" * 65, "1.2?x=1", "1.2\n", "1.\u0662", None])
@pytest.mark.parametrize("where", ["study", "series", "instances"])
def test_what_is_no_uid_never_becomes_part_of_an_address(bad, where):
    with pytest.raises(DatasetError) as caught:
        SeriesReference(
            **{"site": "pacs", "study": "1.2", "series": "1.3"} | {where: (bad,) if where == "instances" else bad}
        )
    assert (caught.value.code, caught.value.where) == ("invalid-uid", f"/{where}")


def test_a_reference_survives_the_blob_store_and_shows_no_uid():
    reference = replace(REFERENCE, instances=tuple(UIDS))
    assert SeriesReference.of_bytes(reference.to_bytes()) == reference
    assert "1.2" not in repr(reference)


def test_the_series_of_an_archive_are_found_by_modality(connect, pacs, monkeypatch):
    monkeypatch.setattr("reacquire.pacs.dicomweb.PAGE", 2)
    for n in range(3):
        pacs.add(make_mr(SeriesInstanceUID=f"1.2.8.{n}", SOPInstanceUID=f"1.2.8.{n}.1"))
    expected = {("1.2.3.2", uid) for uid in ("1.2.3.3", "1.2.8.0", "1.2.8.1", "1.2.8.2")}
    assert set(connect().series()) == set(connect().series("1.2.3.2")) == expected
    assert list(connect().series("1.2.9")) == []


def test_a_secret_is_read_where_the_configuration_points(tmp_path):
    (tmp_path / "token").write_text("t0ken\n")
    (tmp_path / "empty").touch()
    assert read_secret("PW", None, {"PW": "pw"}) == "pw"
    assert read_secret(None, tmp_path / "token", {}) == "t0ken"
    assert read_secret(None, None, {}) is None
    for env, file in (("PW", None), (None, tmp_path / "none"), (None, tmp_path / "empty")):
        with pytest.raises(LookupError):
            read_secret(env, file, {"PW": ""})

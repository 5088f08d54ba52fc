"""The C-STORE SCP on loopback against pynetdicom's and dcmtk's senders: who is heard, what is kept, who is let go."""

import json
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import pytest
from builders import J2K, JPEG_LOSSLESS_SV1, RLE, SECRET, make_dataset, make_mr, make_pixels, make_series
from pydantic import ValidationError
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    CTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
    Verification,
)
from system_tools import system_tool

from gateway.dimse import CONNECTIONS_PER_ASSOCIATION, Scp, transfer_syntaxes
from gateway.receive import Identity, Receiver
from gateway.spool import Spool
from reacquire.dicom import Limits
from reacquire.pacs.config import ScpConfig

PATIENCE_S = 1.0


class Running:
    """An SCP on a free port, its spool, and what it counted."""

    def __init__(self, root: Path, limits: Limits, **changes) -> None:
        settings = {"ae_title": "RQ", "port": 0, "patience_s": PATIENCE_S, "idle_s": 3, "least_free_bytes": 0}
        self.config = ScpConfig(**{**settings, **changes})
        self.spool = Spool(root)
        self.counted: Counter[tuple[str, str]] = Counter()
        receiver = Receiver(self.spool, self.config.least_free_bytes, limits)
        self.scp = Scp(self.config, receiver, lambda *what: self.counted.update([what]))
        self.port = self.scp.start()

    @contextmanager
    def call(self, *contexts, called: str = "RQ", calling: str = "SENDER") -> Iterator[Association]:
        ae = AE(calling)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
        contexts = contexts or (build_context(MRImageStorage, transfer_syntaxes()[:2]), build_context(Verification))
        association = ae.associate("127.0.0.1", self.port, contexts=list(contexts), ae_title=called)
        raw = association.dul.socket.socket
        yield association
        if association.is_established:
            association.release()
        association.dul.join()
        if raw is not None:  # pynetdicom leaves it to the garbage collector when the peer was first to go
            raw.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def stored(self) -> list[bytes]:
        return sorted(path.read_bytes() for held in self.spool.due(0) for path in held.files)

    def reasons(self) -> list[str]:
        return [json.loads(p.read_text())["code"] for p in (self.spool.root / "quarantine").glob("*/reason.json")]

    def close(self) -> None:
        self.scp.stop(0)
        self.spool.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator:
    started: list[Running] = []

    def start(limits: Limits = Limits(), **changes) -> Running:  # noqa: B008
        started.append(Running(tmp_path / f"spool{len(started)}", limits, **changes))
        return started[-1]

    yield start
    for running in started:
        running.close()


@pytest.fixture
def scp(run) -> Running:
    return run()


def pixels(data: bytes) -> bytes:
    return dcmread(BytesIO(data)).PixelData


def send(association: Association, *files: bytes | Dataset) -> list[int]:
    sets = [dcmread(BytesIO(f)) if isinstance(f, bytes) else f for f in files]
    return [association.send_c_store(ds).Status for ds in sets]


def test_a_series_arrives_as_files_that_hold_what_was_sent(scp):
    files = make_series(3)
    with scp.call() as association:
        assert send(association, *files) == [0, 0, 0]
    (held,) = scp.spool.due(0)
    kept = [dcmread(path) for path in held.files]
    assert {ds.SOPInstanceUID for ds in kept} == {dcmread(BytesIO(f)).SOPInstanceUID for f in files}
    assert sorted(ds.PixelData for ds in kept) == sorted(map(pixels, files))
    assert all(path.read_bytes()[:132] == bytes(128) + b"DICM" for path in held.files)
    assert scp.counted[("instance", "kept")] == 3


def test_echo_is_answered(scp):
    with scp.call() as association:
        assert association.send_c_echo().Status == 0


def test_beyond_this_machine_callers_have_to_be_listed():
    with pytest.raises(ValidationError, match="allowed_callers"):
        ScpConfig(host="0.0.0.0")
    assert ScpConfig(host="0.0.0.0", allowed_callers=["PACS"]).allowed_callers == ["PACS"]


@pytest.mark.parametrize("names", [{"called": "OTHER"}, {"calling": "STRANGER"}])
def test_only_known_callers_who_know_our_name_are_heard(run, names):
    scp = run(allowed_callers=["SENDER"])
    with scp.call(**names) as association:
        assert association.is_rejected
    with scp.call() as association:
        assert association.is_established


def test_contexts_are_those_of_mr_in_syntaxes_that_we_decode(scp):
    wanted = [
        build_context(CTImageStorage),
        build_context(EnhancedMRImageStorage),
        build_context(MRImageStorage, "1.2.840.10008.1.2.1.99"),
        build_context(MRImageStorage, "1.2.840.10008.1.2.4.50"),
        *(build_context(MRImageStorage, syntax) for syntax in transfer_syntaxes()),
    ]
    with scp.call(*wanted) as association:
        accepted = {(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts}
    assert {syntax for _, syntax in accepted} == set(transfer_syntaxes())
    assert {sop_class for sop_class, _ in accepted} == {MRImageStorage, EnhancedMRImageStorage}
    assert scp.counted[("context", "rejected")] == 3


@pytest.mark.parametrize("syntax", [RLE, J2K, JPEG_LOSSLESS_SV1])
def test_compressed_instances_are_kept_as_they_are(scp, syntax):
    data = make_mr(syntax=syntax)
    with scp.call(build_context(MRImageStorage, syntax)) as association:
        assert send(association, data) == [0]
    (stored,) = scp.stored()
    assert (pixels(stored), dcmread(BytesIO(stored)).file_meta.TransferSyntaxUID) == (pixels(data), syntax)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"SyntheticData": "YES"}, "already-synthetic"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "unsupported-image-type"),
        ({"BodyPartExamined": "BRAIN"}, "unsupported-body-part"),
        ({"ImagePositionPatient": None}, "missing-geometry"),
        ({"PixelData": b"\0\0"}, "truncated-pixels"),
        ({"SeriesInstanceUID": b"../../../../tmp/x"}, "invalid-uid"),
    ],
)
def test_an_unsuitable_object_is_put_aside_and_does_not_cost_the_series(scp, changes, code):
    odd = make_dataset(SOPInstanceUID="1.2.3.4.99", **changes)
    with scp.call() as association:
        assert send(association, make_mr(), odd, make_mr(SOPInstanceUID="1.2.3.4.2")) == [0, 0, 0]
    assert len(scp.stored()) == 2
    assert scp.reasons() == [code]
    assert scp.counted[("instance", "quarantined")] == 1


def test_the_same_instance_twice_is_one_and_another_under_its_name_is_put_aside(scp):
    with scp.call() as association:
        assert send(association, make_mr(), make_mr(), make_mr(EchoTime="2.0")) == [0, 0, 0]
    assert (len(scp.stored()), scp.reasons()) == (1, ["duplicate-instance"])


def receive(scp: Running, data: bytes, **claims: str) -> tuple[int, str]:
    claimed = {"class_uid": MRImageStorage, "instance_uid": "1.2.3.4.1", **claims}
    answer = scp.scp.receiver.receive(Identity(**claimed), lambda: data)
    return answer.status, answer.fate


def test_a_request_that_contradicts_its_data_set_is_refused(scp):
    assert receive(scp, make_mr(), instance_uid="1.2.3.4.2") == (0xA900, "refused")
    assert receive(scp, make_mr(), class_uid=EnhancedMRImageStorage) == (0xA900, "refused")
    assert scp.spool.counts() == (0, 0)


def test_bytes_that_are_no_data_set_are_refused(scp):
    noise = make_mr()[:400] + b"\xff" * 400
    assert receive(scp, noise) == (0xC000, "refused")
    assert scp.spool.counts() == (0, 0)


def test_a_full_disk_is_said_and_nothing_half_remains(run, monkeypatch):
    scp = run(least_free_bytes=2**62)
    with scp.call() as association:
        assert send(association, make_mr()) == [0xA700]
    roomy = run()
    monkeypatch.setattr("gateway.spool.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "no space")))
    assert receive(roomy, make_mr()) == (0xA700, "no-space")
    assert roomy.spool.counts() == (0, 0)
    assert list((roomy.spool.root / "tmp").iterdir()) == []


def test_what_we_cannot_store_for_another_reason_is_never_a_success(scp, monkeypatch):
    monkeypatch.setattr(Spool, "keep", lambda *_: (_ for _ in ()).throw(OSError(5, "input/output error")))
    with scp.call() as association:
        assert send(association, make_mr()) == [0x0110]
    assert scp.counted[("instance", "failed")] == 1


def half_open(scp: Running) -> socket.socket:
    """A caller who begins an association request and stops."""
    connection = scp.connect()
    connection.sendall(struct.pack(">BBL", 1, 0, 200) + bytes(50))
    return connection


def test_half_sent_requests_give_their_places_back(run):
    scp = run(most_associations=2)
    callers = [half_open(scp), half_open(scp), scp.connect(), scp.connect()]  # two of them say nothing at all
    began = time.monotonic()
    while True:
        with scp.call() as association:
            if association.is_established:
                assert send(association, make_mr()) == [0]
                break
        assert time.monotonic() - began < 15 * PATIENCE_S, "a third caller is locked out"
    for connection in callers:
        connection.close()


def test_a_sender_that_stops_within_an_instance_gives_its_place_back(run):
    scp = run(most_associations=1)
    ae = AE("SENDER")
    association = ae.associate("127.0.0.1", scp.port, contexts=[build_context(MRImageStorage)], ae_title="RQ")
    assert association.is_established
    raw = association.dul.socket.socket
    raw.sendall(struct.pack(">BBLLBB", 4, 0, 5000, 4996, 1, 0) + bytes(100))
    deadline = time.monotonic() + 15 * PATIENCE_S
    while scp.scp.associations:
        assert time.monotonic() < deadline, "the place is still taken"
        time.sleep(0.05)
    with scp.call() as other:
        assert other.is_established
    association.abort()
    association.dul.join()
    raw.close()
    assert scp.counted[("association", "too-slow")] == 1
    assert scp.spool.counts() == (0, 0)


def test_an_idle_association_gives_its_place_back(run):
    scp = run(most_associations=1, idle_s=0.5)
    with scp.call() as idle:
        assert idle.is_established
        deadline = time.monotonic() + 20
        while scp.scp.associations:
            assert time.monotonic() < deadline, "the place is still taken"
            time.sleep(0.05)
        with scp.call() as other:
            assert other.is_established


def test_a_huge_pdu_is_refused_before_it_is_read(scp):
    with scp.connect() as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, 400_000_000))
        connection.settimeout(5)
        assert connection.recv(100) == b"", "the connection is closed at once"
    assert scp.counted[("association", "pdu-too-large")] == 1


def test_a_huge_instance_is_broken_off_and_not_kept(run):
    scp = run(Limits(instance_bytes=20_000))
    with scp.call() as association:
        assert send(association, make_mr()) == [0]
        big = make_dataset(make_pixels(100, 100), SOPInstanceUID="1.2.3.4.9")
        assert "Status" not in association.send_c_store(big)
        deadline = time.monotonic() + 5  # a thread of the caller's notices it
        while association.is_established and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not association.is_established
    assert (len(scp.stored()), scp.reasons()) == (1, [])
    assert scp.counted[("association", "dataset-too-large")] == 1


def test_connections_have_a_bound_of_their_own(run):
    scp = run(most_associations=1)
    callers = [scp.connect() for _ in range(CONNECTIONS_PER_ASSOCIATION + 4)]
    for connection in callers:
        connection.settimeout(0.3)
    closed = 0
    for connection in callers:
        with suppress(TimeoutError):
            closed += connection.recv(1) == b""
        connection.close()
    assert closed >= 4


def test_nothing_of_a_patient_is_logged(scp, caplog, recwarn):
    caplog.set_level("DEBUG")
    odd = make_dataset(SOPInstanceUID="1.2.3.4.99", BodyPartExamined=SECRET)
    with scp.call() as association:
        send(association, make_mr(), odd)
    ours = [r for r in caplog.records if r.name.startswith("gateway")]
    assert ours and not [r for r in ours if SECRET in r.getMessage() or "1.2.3" in r.getMessage()]


needs_dcmtk = pytest.mark.skipif(not system_tool("storescu"), reason="dcmtk is not installed")


def dcmtk(scp: Running, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(system_tool(program)),
        "-aet",
        "SENDER",
        "-aec",
        "RQ",
        *arguments[:-1],
        "127.0.0.1",
        str(scp.port),
        *arguments[-1:],
    ]
    return subprocess.run([a for a in command if a], capture_output=True, text=True, timeout=60)


@needs_dcmtk
def test_dcmtk_echoes(scp):
    assert dcmtk(scp, "echoscu", "").returncode == 0
    assert dcmtk(scp, "echoscu", "-aec", "OTHER", "").returncode != 0


@needs_dcmtk
def test_dcmtk_sends_a_folder_and_an_odd_object_does_not_stop_it(scp, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for number, data in enumerate([*make_series(4), make_mr(SOPInstanceUID="1.2.3.4.0", SyntheticData="YES")]):
        (folder / f"{number}.dcm").write_bytes(data)
    sent = dcmtk(scp, "storescu", "+sd", str(folder))
    assert sent.returncode == 0, sent.stderr
    assert sorted(map(pixels, scp.stored())) == sorted(map(pixels, make_series(4)))
    assert scp.reasons() == ["already-synthetic"]


def test_the_syntaxes_begin_with_what_everyone_can_send():
    assert [UID(s).name for s in transfer_syntaxes()[:2]] == ["Explicit VR Little Endian", "Implicit VR Little Endian"]
    assert "1.2.840.10008.1.2.1.99" not in transfer_syntaxes()

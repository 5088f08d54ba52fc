"""The demo's score against oracles, what it counts as the true re-acquisition, and how it waits and sums up."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from builders import make_mr
from PIL import Image

from examples import demo
from examples.demo import TARGET, in_words, summarise, wait_for, wanted_target
from examples.figures import CAPTION_PIXELS, comparison_png, contrast, labels_of
from examples.phantom_case import (
    SOURCE_PROTOCOL,
    Acquisition,
    PhantomCase,
    Truth,
    phantom_case,
    score,
    true_acquisition,
)
from reacquire.dicom import SliceImage, read_slice, write_segmentation
from reacquire.imaging import Preprocessing
from reacquire.phantom import sample_protocol, sample_scanner

SHAPE = (48, 64)


@pytest.fixture(scope="module")
def source() -> SliceImage:
    return read_slice(make_mr())


@pytest.fixture(scope="module")
def truth() -> Truth:
    """A scanner of another scale and contrast: bands across the source's ramp, and its own noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    clean = (4000 + 1500 * np.sin(rows / 5) + 20 * columns).astype(np.float32)
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:40, 8:56] = 1
    labels[20:30, 20:40] = 2
    return Truth(clean + rng.normal(0, 60, SHAPE).astype(np.float32), clean, labels)


def on_scale_of_source(image: np.ndarray, truth: Truth, source: SliceImage) -> SliceImage:
    """The grey values of the target's scanner as a perfect counterfactual would store them."""
    own, shared = (Preprocessing().forward(i) for i in (truth.image, source.canonical()))
    canonical = (image - own.low) / (own.high - own.low) * (shared.high - shared.low) + shared.low
    return replace(source, pixels=source.orientation.from_canonical(canonical.astype(np.float32)))


def test_the_true_image_reaches_the_ceiling_and_its_noiseless_version_all(truth, source):
    acquired = score(truth, source, on_scale_of_source(truth.image, truth, source))
    assert 0.5 < acquired["gap_ceiling"] < 0.99
    assert acquired["gap_closed"] == pytest.approx(acquired["gap_ceiling"], abs=1e-3)
    assert acquired["ssim_to_true_target"] == pytest.approx(1, abs=1e-3)
    assert score(truth, source, on_scale_of_source(truth.clean, truth, source))["gap_closed"] == pytest.approx(
        1, abs=1e-3
    )


def test_the_source_itself_closes_nothing_and_half_of_the_change_half(truth, source):
    nothing = score(truth, source, source)
    assert nothing["gap_closed"] == 0
    assert nothing["ssim_to_true_target"] == nothing["ssim_of_source_to_true_target"] < 0.9
    perfect = on_scale_of_source(truth.clean, truth, source)
    half = replace(source, pixels=(source.pixels + perfect.pixels) / 2)
    assert score(truth, source, half)["gap_closed"] == pytest.approx(0.5, abs=1e-3)


def test_only_the_breast_counts(truth, source):
    perfect = on_scale_of_source(truth.clean, truth, source).canonical()
    spoilt = np.where(truth.labels > 0, perfect, perfect + 500)
    image = replace(source, pixels=source.orientation.from_canonical(spoilt))
    assert score(truth, source, image)["gap_closed"] > 0.9


@pytest.fixture(scope="module")
def avanto() -> Acquisition:
    rng = np.random.default_rng(0)
    protocol = sample_protocol(rng, protocol_id=SOURCE_PROTOCOL)
    return Acquisition(protocol, sample_scanner(rng, protocol))


def test_the_demos_own_target_is_the_duke_protocol_g3(avanto):
    found, _ = true_acquisition(avanto, TARGET)
    assert found.protocol.protocol_id == "G3"
    assert dict(found.protocol.iap) == TARGET
    assert not found.scanner.fat.inversion
    assert found.scanner.zero_background, "it reconstructs as GE does"


def test_changed_timing_stays_on_the_scanner_and_keeps_the_rest(avanto):
    found, _ = true_acquisition(avanto, {"EchoTime": 2.4})
    assert found.scanner is avanto.scanner
    assert dict(found.protocol.iap) == {**avanto.protocol.iap, "EchoTime": 2.4}
    assert replace(found.protocol, iap=avanto.protocol.iap) == avanto.protocol


def test_other_scan_options_prepare_fat_in_the_same_scanner(avanto):
    found, _ = true_acquisition(avanto, {"ScanOptions": "PFP\\SFS"})
    assert found.protocol.protocol_id == "S2"
    assert found.scanner.fat.inversion
    assert found.scanner == replace(avanto.scanner, fat=found.scanner.fat)


@pytest.mark.parametrize(
    ("target", "row", "maker"),
    [
        ({"ManufacturerModelName": "Skyra", "MagneticFieldStrength": 3.0}, "S3", "SIEMENS"),
        ({"ManufacturerModelName": "SIGNA HDx", "MagneticFieldStrength": 1.5}, "G2", "GE MEDICAL SYSTEMS"),
        ({"ManufacturerModelName": "SIGNA HDx", "MagneticFieldStrength": 3.0}, "G3", "GE MEDICAL SYSTEMS"),
    ],
)
def test_another_model_brings_its_protocol_and_what_the_target_leaves_out_stays(avanto, target, row, maker):
    found, note = true_acquisition(avanto, target)
    assert (found.protocol.protocol_id, note) == (row, None)
    assert dict(found.protocol.iap) == {**avanto.protocol.iap, **target, "Manufacturer": maker}


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ({"Manufacturer": "GE MEDICAL SYSTEMS"}, "no model"),
        ({"ManufacturerModelName": "Trio"}, "no protocol"),
        ({"EchoTime": 99.0}, "EchoTime"),
    ],
)
def test_what_cannot_be_simulated_says_why(avanto, target, reason):
    found, note = true_acquisition(avanto, target)
    assert found is None
    assert reason in note


DOCUMENTS = {
    "counterfactual": {
        "target": {"EchoTime": 2.4},
        "provenance": {"EchoTime": "target"},
        "predicted": {"before": {"values": {"EchoTime": 1.5}}, "after": {"values": {"EchoTime": 2.3}}},
        "evidence": {"ssim": [0.9], "segmentation_dice_before_after": {"fibroglandular": 0.95}},
        "bundle": {"name": "tiny"},
        "support": 0.56,
        "warnings": ["target: EchoTime: training saw less"],
        "notice": "Research use only",
    },
    "segment": {"area_mm2": {"fibroglandular": 12.0}},
}


@pytest.mark.parametrize("note", [None, "no protocol of that model"])
def test_without_truth_the_gap_is_null_and_says_why(note):
    case = PhantomCase(make_mr(), None, note) if note else None
    summary = summarise(DOCUMENTS, case, make_mr(), make_mr(), {"segment": 1.0})
    assert summary["input"] == ("phantom" if note else "user file")
    assert summary["gap_closed"] is None
    assert summary["gap_note"] == (note or "no truth is known")
    assert (summary["predicted_after"], summary["ssim"]) == ({"EchoTime": 2.3}, 0.9)
    assert (summary["support"], summary["warnings"]) == (0.56, ["target: EchoTime: training saw less"])
    assert summary["gap_note"] in in_words(summary, Path("out/demo"))
    assert json.loads(json.dumps(summary)) == summary


def test_with_truth_the_gap_is_scored(truth):
    summary = summarise(DOCUMENTS, PhantomCase(make_mr(), truth), make_mr(), make_mr(), {})
    assert summary["gap_closed"] == 0
    assert summary["gap_ceiling"] > 0.5
    assert "gap_note" not in summary
    last = in_words({**summary, "gap_closed": 0.5432}, Path("out/demo")).splitlines()
    assert last[0] == "warning: target: EchoTime: training saw less"
    assert last[1].startswith("closed 0.54 of the gap") and last[1].endswith("out/demo/comparison.png")


def test_a_simulated_case_is_a_slice_with_a_truth_that_can_be_shown():
    case = phantom_case(TARGET)
    image = read_slice(case.source_dicom, allow_synthetic=True)
    assert case.truth.image.shape == case.truth.clean.shape == case.truth.labels.shape
    assert set(np.unique(case.truth.labels)) == {0, 1, 2}
    figures = score(case.truth, image, image)
    assert (figures["gap_closed"], case.gap_note) == (0, None)
    assert figures["gap_ceiling"] > 0.9
    seg = write_segmentation([image], np.ones((1, *image.pixels.shape), np.uint8), algorithm=("test", "1"))
    panels = panels_of(comparison_png(image, image, seg, case.truth), image.canonical().shape)
    captions = panels[:, :CAPTION_PIXELS]
    assert len(panels) == 6 and all(strip.max() > 128 for strip in captions)
    assert len({strip.tobytes() for strip in captions}) == 6, "each panel has a name of its own"


def panels_of(picture: bytes, shape: tuple[int, int]) -> np.ndarray:
    """(panels, CAPTION_PIXELS + rows, columns, 3) of a comparison, row by row."""
    pixels = np.asarray(Image.open(BytesIO(picture)))
    height, width = CAPTION_PIXELS + shape[0], shape[1]
    assert pixels.shape[0] == 2 * height and pixels.shape[1] % width == 0
    return pixels.reshape(2, height, -1, width, 3).swapaxes(1, 2).reshape(-1, height, width, 3)


@pytest.fixture(scope="module")
def segmentation(source, truth) -> bytes:
    labels = source.orientation.from_canonical(truth.labels)
    return write_segmentation([source], labels[None], algorithm=("test", "1"))


def test_what_became_of_the_contrast_stands_beside_what_should_have(source, truth, segmentation):
    perfect = on_scale_of_source(truth.image, truth, source)
    panels = panels_of(comparison_png(source, perfect, segmentation, truth), SHAPE)
    assert len({panel[:CAPTION_PIXELS].tobytes() for panel in panels}) == len(panels) == 6, "each has its own caption"
    before, after, wanted, labels, change, change_wanted = panels[:, CAPTION_PIXELS:].astype(int)
    assert np.abs(after - wanted).max() <= 1 and np.abs(change - change_wanted).max() <= 1
    assert np.abs(after - before).mean() > 10 and change.any()
    assert (labels[truth.labels == 0] == before[truth.labels == 0]).all() and (labels != before).any()
    darker = after.sum(-1) < before.sum(-1)
    assert (change[darker][:, 2] >= change[darker][:, 0]).all(), "blue where it became darker"


def test_without_a_truth_the_change_alone_is_shown(source, segmentation):
    panels = panels_of(comparison_png(source, source, segmentation, None), SHAPE)
    assert len(panels) == 4
    assert not panels[3, CAPTION_PIXELS:].any(), "nothing changed"


@pytest.mark.parametrize(("missing", "told"), [(None, True), (1, False), (2, False)])
def test_the_contrast_is_told_where_both_tissues_are(source, truth, missing, told):
    labels = np.where(truth.labels == missing, 0, truth.labels)
    values = Preprocessing().forward(source.canonical())
    words = contrast(source.canonical(), values, labels)
    if not told:
        assert words == ""
        return
    fat, gland, ratio = (float(part.split()[-1]) for part in words.split(","))
    image = (source.canonical() - values.low) / (values.high - values.low)
    assert fat == pytest.approx(np.median(image[labels == 1]), abs=0.006)
    assert gland == pytest.approx(np.median(image[labels == 2]), abs=0.006)
    assert ratio == pytest.approx(gland / fat, abs=0.1)


@pytest.mark.parametrize("iop", [["1", "0", "0", "0", "1", "0"], ["-1", "0", "0", "0", "-1", "0"]])
def test_labels_survive_the_way_through_a_seg(iop):
    image = read_slice(make_mr(ImageOrientationPatient=iop))
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:20, 5:30] = 1
    labels[5:9, 10:14] = 2
    seg = write_segmentation([image], labels[None], algorithm=("test", "1"))
    assert np.array_equal(labels_of(seg, image), labels)


def service(*states: str) -> httpx.Client:
    """A service whose job is found in these states, the last one from then on."""
    left = list(states)

    def answer(request: httpx.Request) -> httpx.Response:
        status = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(200, json={"status": status, "links": {"result": f"{request.url.path}/result"}})

    return httpx.Client(transport=httpx.MockTransport(answer), base_url="http://test")


def test_a_slow_job_is_waited_for():
    with service("queued", "running", "succeeded") as client:
        assert wait_for(client, "/v1/jobs/1", every_s=0) == "/v1/jobs/1/result"


def test_a_job_that_never_ends_is_not_waited_for_in_vain():
    with service("running") as client, pytest.raises(SystemExit, match="did not end"):
        wait_for(client, "/v1/jobs/1", at_most_s=0.05, every_s=0.01)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("EchoTime=2.4", "JSON object"),
        ("[2.4]", "JSON object"),
        ("{}", "JSON object"),
        ('{"EchoTime": 99}', "EchoTime must be"),
        ('{"EchoTime": [1.7]}', "JSON object"),
        ('{"Echo": 1.7}', "parameter"),
    ],
)
def test_a_target_that_nobody_could_take_ends_with_a_message(text, reason):
    with pytest.raises(SystemExit, match=rf"^TARGET.*{reason}"):
        wanted_target(text)


def test_without_a_target_it_is_the_demos_own_and_a_good_one_is_taken():
    assert wanted_target(None) is TARGET
    assert wanted_target('{"EchoTime": 1.7}') == {"EchoTime": 1.7}


def refuse_to_start(**_):
    pytest.fail("nothing may be started")


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"not a DICOM file", "DICOM")])
def test_a_wrong_input_is_named_before_anything_is_started(tmp_path, monkeypatch, content, reason):
    path = tmp_path / "wrong.dcm"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(demo, "embedded", refuse_to_start)
    with pytest.raises(SystemExit, match=rf"^INPUT .*wrong\.dcm: .*{reason}"):
        demo.main(path, None, tmp_path)


def test_a_run_that_fails_leaves_nothing_of_the_one_before(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "slice.dcm").write_bytes(make_mr())
    for name in ("summary.json", "comparison.png", "notes.txt"):
        (tmp_path / "out" / name).write_text("earlier")

    def broken(**_):
        raise SystemExit("the service was not ready")

    monkeypatch.setattr(demo, "embedded", broken)
    with pytest.raises(SystemExit, match="not ready"):
        demo.main(tmp_path / "slice.dcm", None, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_the_server_of_the_demo_is_quiet_unless_asked(monkeypatch):
    monkeypatch.delenv("REACQUIRE_LOG_LEVEL", raising=False)
    assert demo.quiet()["REACQUIRE_LOG_LEVEL"] == "warning"
    monkeypatch.setenv("REACQUIRE_LOG_LEVEL", "debug")
    assert demo.quiet()["REACQUIRE_LOG_LEVEL"] == "debug"

"""The audit's arithmetic: verdicts, confidence, what chance alone explains, ranking, files, the journal."""

import csv
import io
import json
import math
import stat

import pytest

from reacquire.audit import Accuracy, Comparison, Journal, SeriesAudit, compare, summarise, to_csv, to_document
from reacquire.errors import InputError
from reacquire.iap import load_vocabulary

VOCABULARY = load_vocabulary()
METRICS = {"predictor": {"accuracy_Manufacturer": 0.75, "mse_EchoTime": 0.04, "note": "text"}}
ACCURACY = Accuracy.of(METRICS)


def entry(value, header, note=None, probability=None):
    return {"value": value, "header": header, "header_note": note, "probability": probability}


def judged(keyword, **given):
    (comparison,) = compare({keyword: entry(**given)}, VOCABULARY, ACCURACY)
    return comparison.verdict, comparison.confidence


@pytest.mark.parametrize(
    ("keyword", "value", "header", "note", "verdict"),
    [
        ("Manufacturer", "SIEMENS", "SIEMENS", None, "agrees"),
        ("Manufacturer", "SIEMENS", "GE MEDICAL SYSTEMS", None, "disagrees"),
        ("MagneticFieldStrength", 3.0, 2.8936, None, "agrees"),
        ("EchoTime", 2.0, 2.39, None, "agrees"),
        ("EchoTime", 2.0, 2.41, None, "disagrees"),
        ("EchoTime", 2.0, 99.0, None, "outside"),
        ("EchoTime", 2.0, None, "absent or empty in the header", "absent"),
        ("EchoTime", 2.0, None, "not the same on every slice", "varies"),
        ("ManufacturerModelName", "Avanto", "Aera", "outside the vocabulary of the models", "outside"),
    ],
)
def test_verdicts(keyword, value, header, note, verdict):
    assert judged(keyword, value=value, header=header, note=note, probability=0.9)[0] == verdict


def test_confidence_is_the_probability_of_the_other_category():
    assert judged("Manufacturer", value="SIEMENS", header="GE MEDICAL SYSTEMS", probability=0.8) == ("disagrees", 0.8)


def test_confidence_of_a_number_is_how_unlikely_its_error_is():
    three_rmse = judged("EchoTime", value=2.0, header=2.6)
    assert three_rmse == ("disagrees", round(math.erf(3 / math.sqrt(2)), 4))


def test_without_figures_a_predictor_is_trusted_no_more_than_the_cohort_mean():
    nothing = Accuracy.of({})
    assert nothing.scale(VOCABULARY["EchoTime"]) == VOCABULARY["EchoTime"].sd
    assert nothing.expected(VOCABULARY["EchoTime"]) is None
    assert nothing.expected(VOCABULARY["Manufacturer"]) is None


def test_a_note_that_this_version_does_not_know_is_not_guessed():
    with pytest.raises(KeyError):
        judged("EchoTime", value=2.0, header=None, note="something else")


def comparison(verdict="disagrees", confidence=0.5, keyword="Manufacturer", header="SIEMENS"):
    return Comparison(keyword, None, header, "GE MEDICAL SYSTEMS", confidence, verdict, confidence)


AUDITS = [
    SeriesAudit("a", 20, 9, (comparison(confidence=0.6), comparison("absent", 0.0, "EchoTime", None))),
    SeriesAudit("b", 20, 9, (comparison(confidence=0.9), comparison("agrees", 0.1, "EchoTime", 2.0))),
    SeriesAudit("c", 1, 1, (comparison("agrees", 0.0),)),
    SeriesAudit("d", refused="inconsistent-series"),
]


def test_a_summary_counts_ranks_and_says_what_chance_explains():
    summary = summarise(AUDITS, VOCABULARY, ACCURACY)
    rows = {row.keyword: row for row in summary.rows}
    assert list(rows) == list(VOCABULARY.keywords)
    assert (rows["Manufacturer"].compared, rows["Manufacturer"].counts["disagrees"]) == (3, 2)
    assert rows["Manufacturer"].expected == pytest.approx(0.75)
    assert rows["Manufacturer"].own == "75% right"
    assert rows["EchoTime"].own == "off by 0.2 ms (RMSE)"
    assert rows["EchoTime"].expected == pytest.approx(0.0455, abs=1e-4)
    assert rows["FlipAngle"].own == "never measured"
    assert [series for series, _ in summary.disagreements] == ["b", "a"]
    assert (summary.beyond(0.9), summary.beyond(0.5)) == (1, 2)
    assert (summary.series, summary.refused) == (4, {"inconsistent-series": 1})


def test_the_table_begins_with_the_surest_disagreement():
    lines = list(csv.DictReader(io.StringIO(to_csv(AUDITS))))
    assert [line["series"] for line in lines] == ["b", "a", "b", "a", "c", "d"]
    assert lines[-1]["refused"] == "inconsistent-series"
    assert "SeriesInstanceUID" not in lines[0]


def test_a_header_cannot_plant_a_formula_in_the_table():
    audit = SeriesAudit("a", 1, 1, (comparison("outside", 0.0, header='=HYPERLINK("http://x")'),))
    (line,) = csv.DictReader(io.StringIO(to_csv([audit])))
    assert line["header"].startswith("'=")


def test_the_document_is_json_and_carries_every_series():
    summary = summarise(AUDITS, VOCABULARY, ACCURACY)
    document = json.loads(json.dumps(to_document(summary, AUDITS, bundle={"name": "x"}, left_out={"not-dicom": 2})))
    assert [a["id"] for a in document["audits"]] == ["a", "b", "c", "d"]
    assert document["files_left_out"] == {"not-dicom": 2}


class TestJournal:
    def test_a_stopped_audit_goes_on_even_after_a_line_was_cut_short(self, tmp_path):
        with Journal(tmp_path, {"slices": 9}) as first:
            for audit in AUDITS[:2]:
                first.add(audit)
            name = first.id_of("1.2.3")
        with (tmp_path / "audit.journal").open("a") as stream:
            stream.write('{"id": "c", "sli')
        with Journal(tmp_path, {"slices": 9}) as second:
            assert second.done == {a.id: a for a in AUDITS[:2]}
            assert second.id_of("1.2.3") == name
            second.add(AUDITS[2])
        with Journal(tmp_path, {"slices": 9}) as third:
            assert list(third.done) == ["a", "b", "c"]

    def test_names_are_no_plain_hash_and_differ_between_audits(self, tmp_path):
        with Journal(tmp_path / "one", {}) as one, Journal(tmp_path / "other", {}) as other:
            assert one.id_of("1.2.3") != other.id_of("1.2.3")
            assert len(one.id_of("1.2.3")) == 16

    def test_only_its_owner_may_read_the_key(self, tmp_path):
        with Journal(tmp_path, {}):
            assert stat.S_IMODE((tmp_path / "audit.journal").stat().st_mode) == 0o600

    def test_another_setup_is_refused(self, tmp_path):
        with Journal(tmp_path, {"slices": 9}):
            pass
        with pytest.raises(InputError):
            Journal(tmp_path, {"slices": 1})

"""Table 6 as a blinded study: one page with two panels a case, a key that never lies in the page, and the way back.

The page asks which panel is a real scan, how good each looks, and whether the anatomy differs (the paper's question).
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from reacquire.engine.preview import display_window, grey, png
from training.evaluation import paper
from training.evaluation.bench import Bench
from training.evaluation.document import Figure, Section, Table
from training.evaluation.html import render
from training.statistics import mean_over_women

FORMAT = "reacquire-reader-study/1"
PAGE, KEY = "reader.html", "reader-key.json"
CHANGES = tuple(paper.TABLE_6)
PLACES = ("none", "inside the breast", "outside the breast", "both")


@dataclass(frozen=True)
class Case:
    """One case of the key: on which side the real scan stands; who she is in the cohort."""

    case: str
    real: str
    woman: int


def make_study(bench: Bench, *, cases: int, seed: int) -> dict[str, str]:
    """Text of ``reader.html`` and of ``reader-key.json``, by name; the real panel is the true target, or, in a cohort
    without pairs, the source slice."""
    rng = np.random.default_rng([seed, 0x4EAD])
    pairs = bench.asked
    first = {pair.woman: i for i, pair in reversed(list(enumerate(pairs)))}
    chosen = [int(i) for i in rng.permutation(sorted(first.values()))[:cases]]
    picked = [pairs[i] for i in chosen]
    real = (bench.targets(picked) if bench.pairs else bench.sources(picked))[:, 0].numpy()
    edited = bench.edited[chosen][:, 0].numpy()
    shown: list[dict[str, str]] = []
    key: list[Case] = []
    for number, (i, true, made) in enumerate(zip(chosen, real, edited, strict=True), start=1):
        side = ("left", "right")[int(rng.integers(2))]
        panels = _panels(true, made)
        left, right = panels if side == "left" else panels[::-1]
        shown.append({"case": f"{number:03d}", "left": left, "right": right})
        key.append(Case(f"{number:03d}", side, pairs[i].woman))
    study = hashlib.sha256("".join(c["left"] + c["right"] for c in shown).encode()).hexdigest()[:16]
    page = render("reader.html.j2", study=study, cases=shown, changes=CHANGES, places=PLACES)
    document = {"format": FORMAT, "study": study, "cases": [vars(case) for case in key]}
    return {PAGE: page, KEY: json.dumps(document, indent=1) + "\n"}


def _panels(real: NDArray, edited: NDArray) -> tuple[str, str]:
    """Both images as PNG data URIs on one common window, so that neither is told by its brightness."""
    windows = [display_window(image) for image in (real, edited)]
    window = float(np.mean([w[0] for w in windows])), float(np.mean([w[1] for w in windows]))
    first, second = (
        "data:image/png;base64," + base64.b64encode(png(grey(image, window))).decode() for image in (real, edited)
    )
    return first, second


def reader_section(cases: int) -> Section:
    """What the report says of a study that nobody has read yet."""
    rows = tuple(
        (name, str(count), str(inside), str(outside)) for name, (count, inside, outside) in paper.TABLE_6.items()
    )
    columns = ("anatomical change", "paper, Table 6: cases of 100", "within the breast", "outside")
    return Section(
        name="reader",
        title="Reader study (Table 6)",
        question="Can a reader tell an edit from a real scan, and does a reader see the anatomy change?",
        method=f"Beside this report lie {PAGE}, {cases} cases of two panels in random order, and {KEY}, which "
        "says which panel is real and must not be given to readers. Each reader opens the page, answers, and saves a "
        "file; reacquire-train reader-import joins the files with the key.",
        caveats=("No reader has been asked for this report; the paper's counts come from breast radiologists.",),
        figures={},
        tables=(Table("The paper's readers", columns, rows),),
    )


def import_answers(key: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Accuracy per reader and over all, quality, anatomical changes, and agreement of readers.

    Raises
    ------
    ValueError
        When a file is no answer sheet of this study, or two sheets have the same reader.
    """
    known = _json(key, "key")
    cases = {c["case"]: c for c in known["cases"]}
    sheets: dict[str, dict[str, dict]] = {}
    for path in files:
        sheet = _json(path, "answers")
        if sheet["study"] != known["study"]:
            raise ValueError(f"{path.name} answers another study than {key.name}")
        if str(sheet["reader"]) in sheets:
            raise ValueError(f"{path.name}: this reader has answered already; give each reader a name of their own")
        answers = {a["case"]: a for a in sheet["answers"] if a.get("real") in ("left", "right")}
        if answers.keys() - cases.keys():
            raise ValueError(f"{path.name} has cases that {key.name} does not know")
        sheets[str(sheet["reader"])] = answers
    if not any(sheets.values()):
        raise ValueError("no answer says which panel is real: there is nothing to import")
    readers = {name: _scores(cases, [answers]) for name, answers in sheets.items()}
    return {
        "format": "reacquire-reader-results/1",
        "study": known["study"],
        "readers": readers,
        "all": _scores(cases, list(sheets.values())),
        "agreement": _agreement(sheets),
        "paper_table_6": {name: list(counts) for name, counts in paper.TABLE_6.items()},
    }


def _json(path: Path, what: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        needed = ("study", "cases") if what == "key" else ("study", "reader", "answers")
        if data["format"] == FORMAT and all(name in data for name in needed):
            return data
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(
        f"{path.name} is no {what} file of a reader study: the page's button 'Save answers' writes them as JSON"
    )


def _scores(cases: dict[str, dict], sheets: Sequence[dict[str, dict]]) -> dict[str, Any]:
    """Accuracy and quality with intervals over women, counts of anatomical changes."""
    right: dict[int, list[float]] = {}
    quality: dict[str, dict[int, list[float]]] = {"real": {}, "counterfactual": {}}
    seen = {change: {"count": 0, **dict.fromkeys(PLACES[1:], 0)} for change in CHANGES}
    for answers in sheets:
        for name, answer in answers.items():
            woman, side = cases[name]["woman"], cases[name]["real"]
            right.setdefault(woman, []).append(float(answer["real"] == side))
            for kind, panel in (("real", side), ("counterfactual", "right" if side == "left" else "left")):
                if answer.get(f"quality_{panel}"):
                    quality[kind].setdefault(woman, []).append(float(answer[f"quality_{panel}"]))
            if answer.get("change") in seen:
                seen[answer["change"]]["count"] += 1
                if answer.get("place") in PLACES[1:]:
                    seen[answer["change"]][answer["place"]] += 1
    return {
        "accuracy": Figure(mean_over_women(right), "reader").to_dict(),
        "accuracy_by_guessing": 0.5,
        **{f"quality_{k}": Figure(mean_over_women(v), "reader", "1..5").to_dict() for k, v in quality.items()},
        "anatomical_change": seen,
    }


def _agreement(sheets: dict[str, dict[str, dict]]) -> list[dict[str, Any]]:
    """Per pair of readers: share of cases with the same answer and Cohen's kappa, on the cases that both answered."""
    names = sorted(sheets)
    found = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            both = sorted(sheets[first].keys() & sheets[second].keys())
            a, b = ([sheets[name][case]["real"] for case in both] for name in (first, second))
            same = float(np.mean([x == y for x, y in zip(a, b, strict=True)])) if both else None
            kappa = float(cohen_kappa_score(a, b)) if len(set(a) | set(b)) > 1 else None
            found.append({"readers": [first, second], "cases": len(both), "same": same, "kappa": kappa})
    return found

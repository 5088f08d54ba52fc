"""The first table of a report, for laypeople: did contrast move, did anatomy stay, what is the ceiling.

A verdict is that of the whole interval, never of the figure alone: met, not met, or not decided.
"""

from collections.abc import Mapping
from math import inf, isnan
from typing import Literal

from training.evaluation.document import Answer, Figure, Figures
from training.statistics import Estimate

Standing = Literal["Met", "Not met", "Not decided"]
TRANSFER = (0.9, 1.1)  # of a tissue whose contrast moved
DICE_LOST = 0.005  # at most, where anatomy counts as kept


def answers(figures: Mapping[str, Figures]) -> tuple[Answer, ...]:
    """One answer per question whose figures were measured."""
    editor = figures.get("editor", {})
    found = [_gap(editor), _contrast(editor), _seen(editor), _anatomy(editor), _undisturbed(editor)]
    return tuple(answer for answer in found if answer is not None)


def standing(estimate: Estimate, low: float, high: float) -> Standing:
    """Whether the interval lies within ``low`` to ``high``, outside, or across a bound; none is decided without one."""
    if low <= estimate.low and estimate.high <= high:
        return "Met"
    return "Not met" if estimate.high < low or estimate.low > high else "Not decided"


def _undecided(estimate: Estimate, bound: str) -> str:
    if isnan(estimate.low) or isnan(estimate.high):
        return f"there is no interval (n = {estimate.n})"
    return f"the interval holds {bound}"


def _gap(editor: Figures) -> Answer | None:
    if "gap_closed" not in editor:
        return None
    gap, ceiling = editor["gap_closed"], editor["gap_ceiling"]
    if gap.estimate.low > 0:
        verdict = (
            f"Met, part of the way: {_share(gap)} of the difference to the true image is gone; a real re-scan would "
            f"take away {_share(ceiling)}."
        )
    elif gap.estimate.high < 0:
        verdict = "Not met: on average the edited slice is further from the truth than the original."
    else:
        verdict = f"Not decided: {_undecided(gap.estimate, '0')}, so doing nothing may be as good."
    return Answer("Does the edit bring the slice nearer to the true re-scan? (gap closed)", gap, ceiling, verdict)


def _contrast(editor: Figures) -> Answer | None:
    names = sorted(name for name in editor if name.startswith("contrast_transfer_"))
    if not names:
        return None
    judged = {name: standing(editor[name].estimate, *TRANSFER) for name in names}
    order = ("Met", "Not decided", "Not met")
    key = max(names, key=lambda name: (order.index(judged[name]), abs(editor[name].estimate.value - 1)))
    worst, label = editor[key], key.removeprefix("contrast_transfer_")
    others = ", ".join(f"{n.removeprefix('contrast_transfer_')} {editor[n].estimate.value:.2f}" for n in names)
    words = {
        "Met": "it moved about fully there",
        "Not met": f"it moved {_moved(worst.estimate)} there",
        "Not decided": _undecided(worst.estimate, f"a bound of about fully ({TRANSFER[0]} to {TRANSFER[1]})"),
    }
    return Answer(
        f"Did contrast move? (transfer, the worse tissue: {label})", worst, "1 would be right",
        f"{judged[key]}: {words[judged[key]]}. All tissues: {others}.",
    )  # fmt: skip


def _moved(outside: Estimate) -> str:
    """In words, how far an interval lies from a full transfer."""
    if outside.low > TRANSFER[1]:
        return "too far"
    return "hardly" if outside.high < 0.3 else "in part"


def _seen(editor: Figures) -> Answer | None:
    name = "effectiveness_corrected_ManufacturerModelName"
    if name not in editor:
        return None
    verdict = "The share of changed scanners that the predictor recognises because of the edit, chance taken out."
    bar = editor.get("effectiveness_ceiling_ManufacturerModelName")
    return Answer("Does the predictor see the new scanner model?", editor[name], bar or "at most 1", verdict)


def _anatomy(editor: Figures) -> Answer | None:
    if "dice_lost" not in editor:
        return None
    lost = editor["dice_lost"]
    found = standing(lost.estimate, -inf, DICE_LOST)
    low, high = lost.estimate.low, max(lost.estimate.high, 0)
    words = {
        "Met": f"on edited slices the segmenter loses at most {high:.3f} of Dice against real ones",
        "Not met": f"on edited slices the segmenter loses at least {low:.3f} of Dice against real ones",
        "Not decided": _undecided(lost.estimate, f"{DICE_LOST}"),
    }
    return Answer(
        "Did the anatomy stay? (Dice that a fixed segmenter loses by the edit)", lost, f"at most {DICE_LOST}",
        f"{found}: {words[found]}. Dice on edited slices: {editor['dice_counterfactual'].estimate.value:.3f}.",
    )  # fmt: skip


def _undisturbed(editor: Figures) -> Answer | None:
    if "composition_error" not in editor:
        return None
    question = "Is a slice left alone when nothing is asked?"
    figure, noise = editor["composition_error"], editor.get("noise_level")
    if noise is None:
        return Answer(question, figure, "0 would be right", "Mean absolute change.")
    share = f"the change is {figure.estimate.value / noise.estimate.value:.2f} times a slice's own noise"
    if figure.estimate.high <= noise.estimate.low:
        verdict = f"Met: {share}, and at most as large."
    elif figure.estimate.low > noise.estimate.high:
        verdict = f"Not met: {share}."
    else:
        verdict = f"Not decided: {share}, within the two intervals."
    return Answer(question, figure, noise, verdict)


def _share(figure: Figure) -> str:
    return f"{figure.estimate.value:.0%}"

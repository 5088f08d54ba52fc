"""The first table of a report, for laypeople: did contrast move, did anatomy stay, what is the ceiling."""

from collections.abc import Mapping

from training.evaluation.document import Answer, Figure, Figures


def answers(figures: Mapping[str, Figures]) -> tuple[Answer, ...]:
    """One answer per question whose figures were measured."""
    editor = figures.get("editor", {})
    found = [_gap(editor), _contrast(editor), _seen(editor), _anatomy(editor), _undisturbed(editor)]
    return tuple(answer for answer in found if answer is not None)


def _gap(editor: Figures) -> Answer | None:
    if "gap_closed" not in editor:
        return None
    gap, ceiling = editor["gap_closed"], editor["gap_ceiling"]
    low, high = gap.estimate.low, gap.estimate.high
    if low > 0:
        verdict = (
            f"Yes, part of the way: {_share(gap)} of the difference to the true image is gone; a real re-scan would "
            f"take away {_share(ceiling)}."
        )
    elif high < 0:
        verdict = "No: on average the edited slice is further from the truth than the original."
    else:
        verdict = "Not shown: the interval holds 0, so doing nothing may be as good."
    return Answer("Does the edit bring the slice nearer to the true re-scan? (gap closed)", gap, ceiling, verdict)


def _contrast(editor: Figures) -> Answer | None:
    names = sorted(name for name in editor if name.startswith("contrast_transfer_"))
    if not names:
        return None
    key = max(names, key=lambda name: abs(editor[name].estimate.value - 1))
    worst, label = editor[key], key.removeprefix("contrast_transfer_")
    others = ", ".join(f"{n.removeprefix('contrast_transfer_')} {editor[n].estimate.value:.2f}" for n in names)
    value = worst.estimate.value
    word = (
        "about fully" if 0.9 <= value <= 1.1 else "too far" if value > 1.1 else "in part" if value >= 0.3 else "hardly"
    )
    return Answer(
        f"Did contrast move? (transfer, the worse tissue: {label})", worst, "1 would be right",
        f"It moved {word} there. All tissues: {others}.",
    )  # fmt: skip


def _seen(editor: Figures) -> Answer | None:
    name = "effectiveness_corrected_ManufacturerModelName"
    if name not in editor:
        return None
    verdict = "The share of changed scanners that the predictor recognises because of the edit, chance taken out."
    bar = editor.get("effectiveness_ceiling_ManufacturerModelName")
    return Answer("Does the predictor see the new scanner model?", editor[name], bar or "at most 1", verdict)


def _anatomy(editor: Figures) -> Answer | None:
    if "dice_counterfactual" not in editor:
        return None
    figure, bar = editor["dice_counterfactual"], editor.get("dice_true_target") or editor["dice_source"]
    lost = bar.estimate.value - figure.estimate.value
    if lost <= 0.005:
        verdict = f"Yes: on edited slices the segmenter does as well as on real ones ({lost:+.3f} of Dice lost)."
    else:
        verdict = f"Nearly: on edited slices the segmenter loses {lost:.3f} of Dice against real ones."
    if lost > 0.03:
        verdict = f"No: the segmenter loses {lost:.3f} of Dice on edited slices."
    return Answer("Did the anatomy stay? (Dice of a fixed segmenter)", figure, bar, verdict)


def _undisturbed(editor: Figures) -> Answer | None:
    if "composition_error" not in editor:
        return None
    figure, noise = editor["composition_error"], editor.get("noise_level")
    if noise is None:
        return Answer(
            "Is a slice left alone when nothing is asked?", figure, "0 would be right", "Mean absolute change."
        )
    share = figure.estimate.value / noise.estimate.value
    if share <= 1:
        verdict = f"Yes: the change is {share:.0%} of a slice's own noise."
    else:
        verdict = f"No: the change is {share:.1f} times a slice's own noise."
    return Answer("Is a slice left alone when nothing is asked?", figure, noise, verdict)


def _share(figure: Figure) -> str:
    return f"{figure.estimate.value:.0%}"

"""What the phantom is worth: its statistics beside the real ones, its leak gates, its pictures.

``python -m training.phantom_report figures`` draws; ``... measure 200`` simulates women and rewrites the tables of
``docs/phantom.md``. Pictures that show real slices go to ``out/``, never into the repository.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from reacquire.phantom import (
    DUKE_PROTOCOLS,
    Subject,
    make_pair,
    make_subject,
    sample_protocol,
    sample_scanner,
    simulate_slice,
)
from reacquire.phantom.bands import ANATOMY_BANDS, CONTRAST_BANDS, IMAGE_BANDS, SCANNER_BANDS, TEXTURE_BANDS, Band
from reacquire.phantom.leaks import hand_features, mask_air
from reacquire.phantom.stats import (
    anatomy_statistics,
    image_statistics,
    noise_statistics,
    radial_profiles,
    texture_statistics,
    tissue_medians,
)
from training.phantom_figures import OUT, ROOT, figures, slice_position

DOCUMENT, WOMEN = ROOT / "docs" / "phantom.md", OUT / "women.jsonl"
EXTRA = OUT / "extra.md"
FIRST_SEED = 20_000
JOINT_SCANS = 6  # scans per woman drawn from the joint table for the leak gates
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

Table = dict[str, list[float]]


def measure_woman(seed: int) -> dict:
    """Everything that the report needs of one woman."""
    subject = make_subject(seed)
    rng = np.random.default_rng([seed, 0x57A7])
    slices = {}
    for protocol_id in DUKE_PROTOCOLS:
        protocol = sample_protocol(rng, protocol_id=protocol_id)
        simulated = simulate_slice(
            subject, slice_position(subject, rng), protocol, sample_scanner(rng, protocol), noise_seed=1
        )
        slices[protocol_id] = {
            **image_statistics(simulated),
            **noise_statistics(simulated),
            **tissue_medians(simulated, subject),
        }
    joint = [_leak_row(subject, rng, fixed_fov=False) for _ in range(JOINT_SCANS)]
    equal = [_leak_row(subject, rng, fixed_fov=True) for _ in range(JOINT_SCANS // 2)]
    anatomy, profiles = anatomy_statistics(subject), radial_profiles(subject)
    return {"anatomy": anatomy, "profiles": profiles, "slices": slices, "joint": joint, "equal_fov": equal}


def _leak_row(subject: Subject, rng: np.random.Generator, *, fixed_fov: bool) -> dict:
    protocol = sample_protocol(rng)
    if fixed_fov:
        protocol = replace(protocol, fov_mm=345.0, chest_fraction=0.57)
    simulated = simulate_slice(
        subject,
        slice_position(subject, rng),
        protocol,
        sample_scanner(rng, protocol),
        noise_seed=int(rng.integers(2**31)),
    )
    return {
        "iap": dict(protocol.iap),
        "features": hand_features(simulated.image).tolist(),
        "masked": hand_features(mask_air(simulated.image)).tolist(),
    }


def leak_gates(rows: Sequence[Mapping], women: Sequence[int], features: str) -> dict[str, float]:
    """Cross-validated (by woman) scores of linear models on the hand features: accuracy, or MSE in ms^2 and mm^2."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, folds = np.array([r[features] for r in rows]), GroupKFold(5)
    scores = {}
    for keyword in ("ManufacturerModelName", "Manufacturer", "MagneticFieldStrength", "ScanOptions"):
        y = np.array([str(r["iap"][keyword]) for r in rows])
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        guess = cross_val_predict(model, x, y, groups=women, cv=folds)
        scores[keyword] = float((guess == y).mean())
    for keyword in ("EchoTime", "RepetitionTime", "FlipAngle", "SliceThickness"):
        y = np.array([float(r["iap"][keyword]) for r in rows])
        guess = cross_val_predict(make_pipeline(StandardScaler(), Ridge(1.0)), x, y, groups=women, cv=folds)
        forest = RandomForestRegressor(60, min_samples_leaf=4, random_state=0)
        forest_guess = cross_val_predict(forest, x, y, groups=women, cv=folds)
        scores[keyword] = float(min(np.mean((guess - y) ** 2), np.mean((forest_guess - y) ** 2)))
    return scores


GATES = {  # name: (low, high, what it means), section 5 of the design
    "ManufacturerModelName": (0.60, 0.85, "accuracy"),
    "EchoTime": (0.004, 0.009, "MSE, ms^2"),
    "SliceThickness": (0.09, 0.15, "MSE, mm^2; below 0.05 is a leak"),
    "RepetitionTime": (0.04, 0.16, "MSE, ms^2; below 0.02 is a leak"),
}


def _row(name: str, values: Iterable[float], band: Band | None) -> str:
    found = np.array([v for v in values if np.isfinite(v)])
    if not found.size:
        return f"| {name} | - | - | - | no data | - | - |"
    p10, p50, p90 = np.percentile(found, [10, 50, 90])
    numbers = " | ".join(f"{v:.4g}" for v in (p10, p50, p90))
    if band is None:
        return f"| {name} | {numbers} | - | - | - |"
    share = np.mean((found >= band.low) & (found <= band.high))
    verdict = "in" if band.low <= p50 <= band.high else "**out**"
    return (
        f"| {name} | {numbers} | {band.low:g} to {band.high:g} {band.unit} ({band.source}) | {verdict} | {share:.0%} |"
    )


HEAD = "| statistic | p10 | p50 | p90 | measured on real data | median | share inside |\n|---|---|---|---|---|---|---|"


def tables(women: Sequence[Mapping]) -> str:
    """The measured part of the document, in Markdown."""
    parts = [f"Women simulated: {len(women)}; slices: {len(women) * (11 + JOINT_SCANS + JOINT_SCANS // 2)}.", ""]
    parts += ["### Anatomy (section 4)", "", HEAD]
    parts += [_row(n, [w["anatomy"][n] for w in women], b) for n, b in ANATOMY_BANDS.items()]
    parts += ["", *_correlations(women), "", *_profiles(women), ""]
    siemens = [s for w in women for k, s in w["slices"].items() if k.startswith("S")]
    ge = [s for w in women for k, s in w["slices"].items() if k.startswith("G")]
    parts += ["### Grey-level distribution (section 4)", "", "Bands are from Siemens volumes.", "", HEAD]
    parts += [_row(f"{n}, Siemens", [s[n] for s in siemens], b) for n, b in IMAGE_BANDS.items()]
    parts += [_row(f"{n}, GE", [s[n] for s in ge], None) for n in IMAGE_BANDS]
    parts += ["", "### Scanner and noise (section 2)", "", HEAD, *_scanner_rows(women, siemens, ge)]
    parts += ["", "### Fat over gland, by protocol (section 2)", "", HEAD]
    parts += [_row(k, [w["slices"][k].get("fat / gland", np.nan) for w in women], b) for k, b in CONTRAST_BANDS.items()]
    parts += ["", "### Leak gates (section 5)", "", *_gate_rows(women)]
    return "\n".join(parts)


def _correlations(women: Sequence[Mapping]) -> list[str]:
    volume = np.log([w["anatomy"]["mound volume, both"] for w in women])
    pairs = {"gland share": -0.46, "mound depth": 0.89}
    return ["| correlation with ln volume | simulated | real |", "|---|---|---|"] + [
        f"| {n} | {np.corrcoef(volume, [w['anatomy'][n] for w in women])[0, 1]:.2f} | {real} |"
        for n, real in pairs.items()
    ]


def _profiles(women: Sequence[Mapping]) -> list[str]:
    real = {
        "by skin distance, 4 mm": (0.09, 0.09, 0.15, 0.22, 0.27, 0.31, 0.33, 0.33, 0.31, 0.29, 0.28, 0.27),
        "by depth, chest to nipple": (0.14, 0.17, 0.20, 0.22, 0.23, 0.23, 0.21, 0.19, 0.17, 0.18),
    }
    lines = ["| gland share | values |", "|---|---|"]
    for name, values in real.items():
        mean = np.nanmean([w["profiles"][name] for w in women], axis=0)
        lines.append(f"| {name}, simulated | " + " ".join(f"{v:.2f}" for v in mean) + " |")
        lines.append(f"| {name}, real | " + " ".join(f"{v:.2f}" for v in values) + " |")
    return lines


def _scanner_rows(women: Sequence[Mapping], siemens: Sequence[Mapping], ge: Sequence[Mapping]) -> list[str]:
    rows = []
    for name, band in SCANNER_BANDS.items():
        if name.startswith("3 T"):
            values = [_field_ratio(w["slices"]) for w in women]
        else:
            source, key = (siemens if name.startswith("S") else ge), name[2:].replace("p99, counts", "p99")
            values = [s.get(key, np.nan) for s in source]
        rows.append(_row(name.replace("S ", "Siemens ", 1).replace("G ", "GE ", 1), values, band))
    return rows


def _field_ratio(slices: Mapping[str, Mapping[str, float]]) -> float:
    high = np.mean([slices[k]["gland SNR"] for k in ("S3", "S4", "G3", "G4", "G5")])
    return float(high / np.mean([slices[k]["gland SNR"] for k in ("S1", "S2", "G1", "G2", "G6")]))


def _gate_rows(women: Sequence[Mapping]) -> list[str]:
    scores = {}
    for title, key, features in (
        ("joint table", "joint", "features"),
        ("air masked", "joint", "masked"),
        ("equal field of view", "equal_fov", "features"),
    ):
        rows = [row for w in women for row in w[key]]
        groups = [number for number, w in enumerate(women) for _ in w[key]]
        scores[title] = leak_gates(rows, groups, features)
    lines = ["| target | " + " | ".join(scores) + " | gate | verdict (joint) |", "|---" * (len(scores) + 3) + "|"]
    for keyword in scores["joint table"]:
        values = " | ".join(f"{s[keyword]:.3f}" for s in scores.values())
        low, high, meaning = GATES.get(keyword, (np.nan, np.nan, "accuracy" if keyword[0] in "MSc" else "MSE"))
        gate = f"{low:g} to {high:g} ({meaning})" if np.isfinite(low) else "-"
        verdict = _verdict(keyword, scores)
        lines.append(f"| {keyword} | {values} | {gate} | {verdict} |")
    return lines


def _verdict(keyword: str, scores: Mapping[str, Mapping[str, float]]) -> str:
    if keyword == "Manufacturer":
        return "in" if scores["air masked"][keyword] >= 0.9 else "**out** (air masked: at least 0.90)"
    if keyword not in GATES:
        return "-"
    low, high, _ = GATES[keyword]
    value = scores["joint table"][keyword]
    leak = {"SliceThickness": 0.05, "RepetitionTime": 0.02}.get(keyword, 0.0)
    if value < leak:
        return "**leak**"
    return "in" if low <= value <= high else "**out**"


def measure(count: int) -> None:
    """Simulate ``count`` women and rewrite the document's tables.

    Each woman is kept in ``out/phantom/women.jsonl`` as she is done, and a broken-off run goes on after the last one;
    remove the folder to start afresh after a change of the simulator.
    """
    OUT.mkdir(parents=True, exist_ok=True)
    done = len(_measured()) if WOMEN.exists() else 0
    with WOMEN.open("a", encoding="utf-8") as file:
        for number in range(done, count):
            file.write(json.dumps(measure_woman(FIRST_SEED + number), default=float) + "\n")
            file.flush()
            sys.stderr.write(f"\r{number + 1}/{count} women")
    write_tables()


def _measured() -> list[dict]:
    return [json.loads(line) for line in WOMEN.read_text(encoding="utf-8").splitlines()]


def noise_ceiling(count: int = 4) -> Table:
    """PSNR in the breasts (dB, peak = p99) of two noise realisations of one scan: no method can score above it."""
    found: Table = {protocol_id: [] for protocol_id in DUKE_PROTOCOLS}
    for seed in range(count):
        subject = make_subject(30_000 + seed)
        rng = np.random.default_rng([seed, 0xCE])
        for protocol_id, values in found.items():
            protocol = sample_protocol(rng, protocol_id=protocol_id)
            pair = make_pair(
                subject, slice_position(subject, rng), *[(protocol, sample_scanner(rng, protocol))] * 2, seed=seed
            )
            difference = (pair.source.image.astype(float) - pair.target.image)[pair.source.breast]
            peak = np.percentile(pair.source.image, 99)
            values.append(float(10 * np.log10(peak**2 / np.mean(difference**2))))
    return found


def texture_rows(count: int = 24) -> list[str]:
    """Texture and shading of Siemens slices, one per woman and protocol."""
    found: Table = {name: [] for name in TEXTURE_BANDS}
    for seed in range(count):
        subject = make_subject(40_000 + seed)
        rng = np.random.default_rng([seed, 0x7E])
        protocol = sample_protocol(rng, protocol_id=("S1", "S2", "S3", "S4")[seed % 4])
        scan = (protocol, sample_scanner(rng, protocol))
        simulated = simulate_slice(subject, slice_position(subject, rng), *scan, noise_seed=seed)
        for name, value in texture_statistics(simulated, subject).items():
            found[name].append(value)
    return [_row(f"{name}, Siemens", values, TEXTURE_BANDS[name]) for name, values in found.items()]


def extra_tables() -> str:
    """Texture, shading and noise ceiling in Markdown; kept in ``out/phantom/extra.md`` once measured."""
    if not EXTRA.exists():
        ceiling = " | ".join(f"{np.median(v):.1f}" for v in noise_ceiling().values())
        lines = ["### Texture and shading (sections 2 and 4; 24 women)", "", HEAD, *texture_rows(), ""]
        lines += ["### Noise ceiling", ""]
        lines += ["Median PSNR in the breasts of two noise realisations of one scan, dB (4 women).", ""]
        lines += ["| " + " | ".join(DUKE_PROTOCOLS) + " |", "|---" * len(DUKE_PROTOCOLS) + "|", f"| {ceiling} |"]
        EXTRA.write_text("\n".join(lines), encoding="utf-8")
    return EXTRA.read_text(encoding="utf-8")


def write_tables() -> None:
    """Put the tables of ``out/phantom`` into the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    body = tables(_measured()) + "\n\n" + extra_tables()
    DOCUMENT.write_text(f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """``figures`` (default), ``measure [women]`` or ``tables``."""
    command = arguments[0] if arguments else "figures"
    if command == "figures":
        figures()
    elif command == "measure":
        measure(int(arguments[1]) if len(arguments) > 1 else 200)
    elif command == "tables":
        write_tables()
    else:
        sys.stderr.write("usage: python -m training.phantom_report figures | measure [women] | tables\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

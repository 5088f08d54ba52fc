"""The numbers that the paper prints (Morão et al., MIDL 2025), as constants by table.

They were measured on Duke's patients; ours beside them are not, unless the cohort is Duke's.
"""

from collections.abc import Mapping
from typing import Any

# Table 1: top-1 accuracy (%) of the categories, mean squared error of the numbers
TABLE_1 = {
    "ManufacturerModelName": 98.9, "MagneticFieldStrength": 99.2, "ScanOptions": 99.9,
    "FlipAngle": 0.080, "SliceThickness": 0.133, "EchoTime": 0.005, "RepetitionTime": 0.046,
}  # fmt: skip
# Table 2: counterfactual prediction gain
TABLE_2 = {"Manufacturer": 0.372, "ManufacturerModelName": 0.568, "MagneticFieldStrength": 0.254}
# Table 3: training set, test set, accuracies (%) of background, fat, gland, Dice of fat and gland, mean Dice;
# "*" is the paper's p < 0.05
TABLE_3 = (
    ("Both", "Both", "99.4", "93.6", "90.3", "0.929", "0.716", "0.840"),
    ("GE", "GE", "99.4", "96.6", "88.6", "0.949", "0.758", "0.863"),
    ("GE + CF Siemens", "GE", "99.5", "96.5", "89.4*", "0.950", "0.757", "0.863"),
    ("GE", "Siemens", "98.3", "94.0", "62.3", "0.860", "0.555*", "0.730"),
    ("GE + CF Siemens", "Siemens", "99.1*", "94.2", "61.7", "0.889*", "0.536", "0.739*"),
    ("Siemens", "Siemens", "99.4", "91.5", "58.7", "0.866", "0.588*", "0.746*"),
    ("Siemens + CF GE", "Siemens", "99.1", "92.3*", "60.2*", "0.863", "0.571", "0.737"),
    ("Siemens", "GE", "98.9", "89.3", "59.7", "0.886", "0.549", "0.742"),
    ("Siemens + CF GE", "GE", "98.8", "91.8*", "67.7*", "0.896*", "0.553*", "0.750*"),
)
TABLE_3_COLUMNS = (
    "trained on", "tested on", "acc. background %", "acc. fat %", "acc. gland %", "Dice fat", "Dice gland", "mean Dice",
)  # fmt: skip
# Tables 4 and 5 have a row for each of these (steps, guidance scale), and one without any editing
WITHOUT = None
CHOSEN = (50, 3.0)  # the authors' own choice (section 4), which their data augmentation used
Setting = tuple[int, float] | None
# Table 4: FID, SSIM to the original, SSIM to the shuffled image, MMD
TABLE_4_COLUMNS = ("legacy_fid_same_originals", "legacy_ssim_original", "legacy_ssim_shuffled", "legacy_mmd_linear")
TABLE_4: dict[Setting, tuple[float, ...]] = {
    WITHOUT: (0.0, 1.000, 0.258, 0.0),
    (25, 3.0): (0.416, 0.742, 0.284, 0.010e-3),
    (25, 5.0): (0.501, 0.709, 0.277, 0.016e-3),
    (25, 7.0): (0.590, 0.689, 0.272, 0.022e-3),
    (50, 3.0): (0.513, 0.657, 0.287, 0.016e-3),
    (50, 5.0): (0.606, 0.630, 0.281, 0.025e-3),
    (50, 7.0): (0.702, 0.613, 0.276, 0.037e-3),
    (75, 3.0): (0.573, 0.606, 0.288, 0.029e-3),
    (75, 5.0): (0.669, 0.583, 0.283, 0.036e-3),
    (75, 7.0): (0.774, 0.566, 0.279, 0.049e-3),
}
# Table 5: accuracies (%) of the categories, mean squared errors of the numbers
TABLE_5_COLUMNS = (
    "ManufacturerModelName", "MagneticFieldStrength", "ScanOptions", "FlipAngle", "SliceThickness", "RepetitionTime",
    "EchoTime",
)  # fmt: skip
TABLE_5: dict[Setting, tuple[float, ...]] = {
    WITHOUT: (22.8, 49.8, 28.0, 0.440, 0.260, 1.046, 0.481),
    (25, 3.0): (77.7, 66.3, 87.8, 0.289, 0.198, 0.293, 0.070),
    (25, 5.0): (82.4, 71.7, 92.8, 0.292, 0.192, 0.249, 0.055),
    (25, 7.0): (83.4, 76.0, 93.0, 0.289, 0.189, 0.237, 0.058),
    (50, 3.0): (85.8, 76.9, 96.0, 0.282, 0.190, 0.207, 0.038),
    (50, 5.0): (87.2, 83.1, 96.3, 0.284, 0.185, 0.186, 0.040),
    (50, 7.0): (88.3, 87.0, 96.6, 0.275, 0.180, 0.179, 0.042),
    (75, 3.0): (87.1, 82.8, 97.0, 0.285, 0.189, 0.183, 0.034),
    (75, 5.0): (88.5, 88.5, 96.5, 0.273, 0.181, 0.174, 0.039),
    (75, 7.0): (89.3, 90.4, 96.6, 0.257, 0.172, 0.172, 0.042),
}
# Table 6: anatomical change that a radiologist saw in 100 central slices, (count, inside the breast, outside)
TABLE_6 = {"no": (98, 0, 0), "minimal": (2, 0, 2), "moderate": (0, 0, 0), "significant": (0, 0, 0), "severe": (0, 0, 0)}


def setting_of(record: Mapping[str, Any]) -> tuple[int, float]:
    """The row of Tables 4 and 5 that an editor is held against, printed or not.

    For the paper's method that with the same noise and guidance: the paper's steps say how much noise is added, and
    other samplers than the authors' take their steps through a fixed amount. Other methods have neither: the authors'
    choice.

    Parameters
    ----------
    record : ``Settings.record`` of the editor
    """
    if record["method"] != "sdedit":
        return CHOSEN
    steps = record["steps"] if record["sampler"] == "ancestral" else record["start"] + 1
    return int(steps), float(record["guidance_scale"])


def heading(setting: tuple[int, float]) -> str:
    return f"paper, {setting[0]} steps, scale {setting[1]:g}"


def table_4(figure: str, setting: Setting) -> float | None:
    """What the paper prints, None where it does not."""
    return _printed(TABLE_4, TABLE_4_COLUMNS, figure, setting)


def table_5(keyword: str, setting: Setting) -> float | None:
    """What the paper prints, None where it does not."""
    return _printed(TABLE_5, TABLE_5_COLUMNS, keyword, setting)


def _printed(
    table: Mapping[Setting, tuple[float, ...]], columns: tuple[str, ...], name: str, setting: Setting
) -> float | None:
    return table[setting][columns.index(name)] if setting in table and name in columns else None


def corrected(keyword: str, setting: Setting = CHOSEN) -> float | None:
    """Table 5 without its chance agreement: the share of what was missing without editing that the edit brought.

    For a number, the share of the closable squared error: what Table 1 leaves on real slices can't be closed. None
    where the paper does not print it.
    """
    without, edited = table_5(keyword, WITHOUT), table_5(keyword, setting)
    if without is None or edited is None:
        return None
    best = 100.0 if keyword in ("ManufacturerModelName", "MagneticFieldStrength", "ScanOptions") else TABLE_1[keyword]
    return (edited - without) / (best - without)

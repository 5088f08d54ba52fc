"""The numbers that the paper prints (Morão et al., MIDL 2025), as constants by table.

They were measured on Duke's patients; ours beside them are not, unless the cohort is Duke's.
"""

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
# Table 4, 50 steps and guidance 3 beside "without": FID, SSIM to the original, SSIM to the shuffled image, MMD
TABLE_4 = {
    "legacy_fid_same_originals": (0.0, 0.513), "legacy_ssim_original": (1.0, 0.657),
    "legacy_ssim_shuffled": (0.258, 0.287), "legacy_mmd_linear": (0.0, 0.016e-3),
}  # fmt: skip
# Table 5, 50 steps and guidance 3 beside "without": accuracies (%) and mean squared errors
TABLE_5 = {
    "ManufacturerModelName": (22.8, 85.8), "MagneticFieldStrength": (49.8, 76.9), "ScanOptions": (28.0, 96.0),
    "FlipAngle": (0.440, 0.282), "SliceThickness": (0.260, 0.190), "RepetitionTime": (1.046, 0.207),
    "EchoTime": (0.481, 0.038),
}  # fmt: skip
# Table 6: anatomical change that a radiologist saw in 100 central slices, (count, inside the breast, outside)
TABLE_6 = {"no": (98, 0, 0), "minimal": (2, 0, 2), "moderate": (0, 0, 0), "significant": (0, 0, 0), "severe": (0, 0, 0)}


def corrected(keyword: str) -> float:
    """Table 5 without its chance agreement: the share of what was missing without editing that 50 steps brought.

    For a number, the share of the closable squared error: what Table 1 leaves on real slices can't be closed.
    """
    without, edited = TABLE_5[keyword]
    best = 100.0 if keyword in ("ManufacturerModelName", "MagneticFieldStrength", "ScanOptions") else TABLE_1[keyword]
    return (edited - without) / (best - without)

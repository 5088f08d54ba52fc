"""Finished runs -> a bundle: weights in half precision, manifest with hashes, model card, licence.

Everything that the weights depend on comes from the runs' own records; runs that disagree are not packed together.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from reacquire.bundles.manifest import FORMAT, MANIFEST_NAME, Manifest, NetworkEntry, file_sha256
from reacquire.iap import Encoding, load_vocabulary
from reacquire.imaging import Preprocessing
from training.model_card import model_card, monai_metadata
from training.record import RunRecord, read_record, unseen_categories

MODELS = ("editor", "predictor", "segmenter")
MAY_LACK = ("tone",)
SIMULATED = (
    "Trained on simulated women of the Reacquire phantom only; no patient data was seen, and nothing is claimed about "
    "real patients."
)


@dataclass(frozen=True)
class Card:
    """What people need to know about a bundle; ``training_data`` None is for simulated women only."""

    name: str
    version: str
    description: str
    created: str
    training_data: str | None = None
    licence: str = "Apache-2.0"


# The bundle's own values of what a user may leave open, by method
DIRECT: dict[str, Any] = {"noise": True}
PAPER: dict[str, Any] = {"sampler": "ancestral", "steps": 50, "guidance_scale": 3.0}  # sections 2.2 and 4 of the paper
STRUCTURE: dict[str, Any] = {"sampler": "ddim", "steps": 1, "guidance_scale": 2.0}  # decision 0014
DEFAULTS: dict[str, dict[str, Any]] = {"direct": DIRECT, "sdedit": PAPER, "structure": STRUCTURE}


def pack_bundle(
    folder: Path,
    card: Card,
    runs: Mapping[str, Path],
    defaults: Mapping[str, Any],
    *,
    metrics: Mapping[str, Mapping[str, Any]],
    licence_file: Path,
) -> Manifest:
    """Write a bundle from one finished run each for ``editor``, ``predictor`` and ``segmenter``, and maybe ``tone``.

    Raises
    ------
    FileExistsError
        When the folder exists: a released bundle is never altered.
    ValueError
        When the runs disagree, weights can't be read, or data was seen that is not simulated and the card does not say
        which.
    FileNotFoundError
        When a run has not finished.
    OSError
        When the bundle can't be written, as on a full disk; nothing is left of it.
    """
    records = {name: read_record(runs[name]) for name in (*MODELS, *(n for n in MAY_LACK if n in runs))}
    _check_agreement(records)
    training_data = _training_data(card, records)
    if folder.exists():
        raise FileExistsError(f"{folder} exists and a bundle is never altered; name a new folder")
    with _made_whole(folder) as part:
        for sub in ("configs", "models", "docs"):
            (part / sub).mkdir()
        networks = {name: _add_network(part, name, runs[name], record) for name, record in records.items()}
        if "tone" in networks and file_sha256(part / networks["segmenter"].file) != records["tone"].segmenter:
            raise ValueError("the tone network was fitted with another segmenter than the one that is packed")
        shutil.copyfile(licence_file, part / "LICENSE")
        (part / "docs" / "data_license.txt").write_text(training_data + "\n", encoding="utf-8")
        (part / "docs" / "README.md").write_text(
            model_card(f"{card.name} {card.version}", card.description, training_data, card.licence, records, metrics),
            encoding="utf-8",
        )
        _write_json(part / "configs" / "metadata.json", monai_metadata(card.version, card.description, records))
        manifest = Manifest.model_validate(
            {
                "format": FORMAT,
                **asdict(card),
                "training_data": training_data,
                "patient_data": not all(record.synthetic for record in records.values()),
                **_pins(records, defaults),
                "networks": networks,
                "trained_on": records["editor"].scanners,
                "metrics": metrics,
                "files": {
                    p.relative_to(part).as_posix(): file_sha256(p) for p in sorted(part.rglob("*")) if p.is_file()
                },
            }
        )
        _write_json(part / MANIFEST_NAME, manifest.model_dump())
    return manifest


@contextmanager
def _made_whole(folder: Path) -> Iterator[Path]:
    """A folder that gets its name once the block has filled it; where that can't be done nothing is left of it."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a packing that was killed
    try:
        part.mkdir(parents=True)
        yield part
        part.rename(folder)
    except ValueError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        why = getattr(error, "strerror", None) or error
        raise OSError(f"{folder} can't be written ({why}); make room and repeat the command: it begins anew") from error


def _check_agreement(records: Mapping[str, RunRecord]) -> None:
    for fact in ("vocabulary", "preprocessing"):
        if any(getattr(record, fact) != getattr(records["editor"], fact) for record in records.values()):
            raise ValueError(f"the runs were trained with different editions of the {fact}")
    if any(record.layout != records["editor"].layout for record in _conditioned(records)):
        raise ValueError(
            "editor and predictor were trained with different layouts of the parameters: an editor of a paper or "
            "structure preset takes a predictor of preset paper or paper-two-core, any other editor one of the rest"
        )
    for name, record in records.items():
        if record.model != name:
            raise ValueError(f"the run given as {name} trained a {record.model}")


def _conditioned(records: Mapping[str, RunRecord]) -> list[RunRecord]:
    """The runs whose networks take or give vectors of parameters."""
    return [record for name, record in records.items() if name != "segmenter"]


def _training_data(card: Card, records: Mapping[str, RunRecord]) -> str:
    """The sentence about the data; the one about simulation only where every slice was marked as synthetic."""
    if card.training_data is not None:
        return card.training_data
    if not all(record.synthetic for record in records.values()):
        raise ValueError(
            "the runs saw slices that are not marked as synthetic: say what the training data was (--training-data)"
        )
    return SIMULATED


def _pins(records: Mapping[str, RunRecord], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Vocabulary, preprocessing and method of the manifest, as the runs recorded them."""
    editor = records["editor"]
    if editor.method is None:
        raise ValueError("the editor's record says nothing of its method")
    vocabulary = load_vocabulary()
    if editor.vocabulary != vocabulary.sha256:
        raise ValueError(f"the runs were trained with another edition of the vocabulary than {vocabulary.name}")
    preprocessing = Preprocessing.from_dict(editor.preprocessing)
    encoding = Encoding(vocabulary, "paper" if editor.layout == "paper" else "default")
    return {
        "vocabulary": {
            "name": vocabulary.name,
            "sha256": vocabulary.sha256,
            "layout": encoding.layout,
            "unseen": unseen_categories(encoding, *(record.seen for record in _conditioned(records))),
        },
        "preprocessing": {"parameters": preprocessing.to_dict(), "sha256": preprocessing.sha256},
        "editing": {**editor.method, **defaults},
    }


def _add_network(folder: Path, name: str, run: Path, record: RunRecord) -> NetworkEntry:
    """Copy a run's weights in half precision; integer buffers stay as they are."""
    weights = run / "weights.safetensors"
    try:
        tensors = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{weights} can't be read ({error}); train the {name} again") from error
    halved = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in tensors.items()}
    file = f"models/{name}.safetensors"
    save_file(halved, folder / file)
    (folder / file).chmod(0o644)  # safetensors writes for the owner alone; the worker of an image is another user
    return NetworkEntry(file=file, preset=record.preset, config=record.network, parameters=record.parameters)


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

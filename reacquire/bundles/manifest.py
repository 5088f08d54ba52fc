"""The manifest of a bundle: everything that weights need to mean the same thing elsewhere, as pure data.

Owns the schema and the hashes. Unknown keys are refused, so that an older program never half-understands a newer
bundle; a file whose hash differs refuses to load. Torch-free: the API lists bundles without the networks.
"""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from reacquire.errors import BundleError
from reacquire.jobs.spec import SamplerName, Strict

MANIFEST_NAME = "manifest.json"
FORMAT = "reacquire-bundle/2"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Scalar = str | int | float | bool | None


class VocabularyPin(Strict):
    """Which vocabulary the vectors are written in, and in which layout (``reacquire.iap.encoding``).

    ``unseen`` lists by keyword the categories that no training slice had: the networks know nothing of them.
    """

    name: str
    sha256: Sha256
    layout: Literal["default", "paper"]
    unseen: dict[str, list[str | float]] = Field(default_factory=dict)


class PreprocessingPin(Strict):
    """Parameters of ``reacquire.imaging.Preprocessing`` and their hash."""

    parameters: dict[str, Scalar]
    sha256: Sha256


class SdeditSetup(Strict):
    """A bundle whose network is the paper's denoiser, run as Algorithm 1 on the paper's schedule.

    ``start`` is the first timestep of the reverse process.
    """

    method: Literal["sdedit"]
    schedule: Literal["paper_cosine"]
    timesteps: Literal[1000]
    sampler: SamplerName
    eta: Annotated[float, Field(ge=0, le=1)] = 1.0
    start: Annotated[int, Field(ge=1)]
    steps: Annotated[int, Field(ge=1)]
    guidance_scale: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.steps <= self.start + 1 <= self.timesteps:
            raise ValueError("start must lie in the schedule and leave room for the steps")
        return self


class InversionSetup(Strict):
    """A bundle whose network is the paper's denoiser, run as an edit-friendly inversion.

    ``start`` is the timestep up to which a slice is encoded.
    """

    method: Literal["inversion"]
    schedule: Literal["paper_cosine"]
    timesteps: Literal[1000]
    start: Annotated[int, Field(ge=1, lt=1000)]
    steps: Annotated[int, Field(ge=1)]
    guidance_scale: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.steps > self.start + 1:
            raise ValueError("start must leave room for the steps")
        return self


class StructureSetup(Strict):
    """A bundle whose denoiser predicts the clean slice from noise, beside the slice that it is to look like.

    ``start`` is the last timestep, as the walk begins with noise alone; ``guidance_scale`` multiplies the difference
    between what the network makes under the target's parameters and under the source's.
    """

    method: Literal["structure"]
    schedule: Literal["paper_cosine"]
    timesteps: Literal[1000]
    sampler: SamplerName
    eta: Annotated[float, Field(ge=0, le=1)] = 1.0
    start: Literal[999]
    steps: Annotated[int, Field(ge=1, le=1000)]
    guidance_scale: Annotated[float, Field(ge=0)]


class DirectSetup(Strict):
    """A bundle whose network edits in one evaluation; ``noise`` says whether results get the target's noise."""

    method: Literal["direct"]
    noise: bool


EditorSetup = SdeditSetup | InversionSetup | StructureSetup | DirectSetup


class NetworkEntry(Strict):
    """One network: its weights file, its configuration and the preset it came from."""

    file: str
    preset: str
    config: dict[str, Scalar | list[Scalar]]
    parameters: Annotated[int, Field(gt=0)]


class Networks(Strict):
    """The networks of a bundle; ``tone``, which moves gland after the editor, may be absent."""

    editor: NetworkEntry
    predictor: NetworkEntry
    segmenter: NetworkEntry
    tone: NetworkEntry | None = None

    @property
    def entries(self) -> tuple[NetworkEntry, ...]:
        """Those that there are."""
        return tuple(e for e in (self.editor, self.predictor, self.segmenter, self.tone) if e is not None)


class TrainedScanner(Strict):
    """One combination of categories of the editor's training slices, and the range of each number seen on it."""

    categories: dict[str, str | float]
    ranges: dict[str, tuple[float, float]]


class Manifest(Strict):
    """The file ``manifest.json`` of a bundle."""

    format: Literal["reacquire-bundle/2"]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    description: str
    created: str
    licence: str
    training_data: str
    patient_data: bool
    vocabulary: VocabularyPin
    preprocessing: PreprocessingPin
    editing: Annotated[EditorSetup, Field(discriminator="method")]
    networks: Networks
    trained_on: list[TrainedScanner] = Field(default_factory=list)
    metrics: dict[str, dict[str, Scalar]]
    files: dict[str, Sha256]

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name:
                raise ValueError(f"{name} would lie outside the bundle")
        return files

    @model_validator(mode="after")
    def _weights_are_hashed(self) -> Self:
        for entry in self.networks.entries:
            if entry.file not in self.files:
                raise ValueError(f"the weights {entry.file} are not among the hashed files")
        if self.networks.tone is not None and self.editing.method != "direct":
            raise ValueError("a tone network follows a direct editor, no other")
        return self


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the bundle in ``folder``, its schema checked, its files not yet.

    Raises
    ------
    BundleError
        When there is none, or it does not fit the schema; the message names the file and the key.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise BundleError(f"{path} is missing: {folder.name} is not a bundle")
    try:
        _check_format(path)
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise BundleError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _check_format(path: Path) -> None:
    """Name an older or newer format before its other keys confuse the schema."""
    try:
        data = json.loads(path.read_bytes())
    except ValueError:
        return  # the schema's own message is better
    found = data.get("format") if isinstance(data, dict) else None
    if isinstance(found, str) and found.startswith("reacquire-bundle/") and found != FORMAT:
        raise BundleError(f"{path}: the bundle has the format {found[:40]}, this version reads {FORMAT}")


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check that ``folder`` holds the files of the manifest, unchanged, and nothing else.

    Raises
    ------
    BundleError
        Naming the first file that is missing, altered or not listed.
    """
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {MANIFEST_NAME}
    for name in sorted(present - manifest.files.keys()):
        raise BundleError(f"{folder / name} is not listed in the manifest")
    for name, expected in sorted(manifest.files.items()):
        if name not in present:
            raise BundleError(f"{folder / name} is missing")
        if file_sha256(folder / name) != expected:
            raise BundleError(f"{folder / name} does not have the hash of the manifest: it was altered or cut short")


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

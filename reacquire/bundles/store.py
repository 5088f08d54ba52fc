"""A folder of bundles side by side: what is there, and what of it is sound. Torch-free.

A bundle counts only when every byte is what its manifest says; a broken one is refused by name and the others go on.
What is *active* is not the folder's business: it may be read-only on many nodes (``reacquire.jobs.activation``).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from reacquire.bundles.manifest import MANIFEST_NAME, Manifest, file_sha256, read_manifest, verify_files
from reacquire.errors import BundleError
from reacquire.jobs.record import BundleRef

LABEL = re.compile(r"([a-z0-9][a-z0-9-]{0,63})@(\d+\.\d+\.\d+)")


@dataclass(frozen=True)
class BundleInfo:
    """A verified bundle; ``sha256`` is the manifest's own digest and so identifies every byte of it."""

    folder: Path
    sha256: str
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def ref(self) -> BundleRef:
        """What jobs and activations call it."""
        return BundleRef(self.name, self.version, self.sha256)

    @property
    def description(self) -> str:
        return self.manifest.description

    @property
    def metrics(self) -> dict:
        return dict(self.manifest.metrics)

    @property
    def unseen(self) -> dict[str, list[str | float]]:
        """Categories of the vocabulary that the weights were never shown, by keyword."""
        return dict(self.manifest.vocabulary.unseen)


def open_bundle(folder: Path) -> BundleInfo:
    """Read and verify one bundle folder.

    Raises
    ------
    BundleError
        Naming the file at fault.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    return BundleInfo(folder, file_sha256(folder / MANIFEST_NAME), manifest)


@dataclass(frozen=True)
class RefusedBundle:
    """A folder that holds a manifest and is not served, and why."""

    folder: str
    reason: str


@dataclass(frozen=True)
class Inventory:
    """What a store holds: sound bundles by name and rising version, and those that were refused."""

    sound: tuple[BundleInfo, ...]
    refused: tuple[RefusedBundle, ...]

    def find(self, label: str) -> BundleInfo:
        """The bundle called ``NAME@VERSION``.

        Raises
        ------
        BundleError
            ``model-not-found``, listing what there is; or saying why that very bundle was refused.
        """
        if not LABEL.fullmatch(label):
            raise BundleError("a bundle is named NAME@VERSION, such as phantom-v1@1.1.0", code="model-not-found")
        for info in self.sound:
            if info.ref.label == label:
                return info
        refused = "".join(f"; {found.folder} is refused: {found.reason}" for found in self.refused)
        raise BundleError(f"no sound bundle {label}; there are: {self.labels}{refused}", code="model-not-found")

    def with_hash(self, sha256: str) -> BundleInfo | None:
        """The very bundle that a job was accepted under."""
        return next((info for info in self.sound if info.sha256 == sha256), None)

    @property
    def labels(self) -> str:
        """What there is, for messages."""
        return ", ".join(info.ref.label for info in self.sound) or "none"


@dataclass(frozen=True)
class BundleStore:
    """The bundles that lie side by side in ``root``, one folder each under any name, and those of ``also``."""

    root: Path
    also: tuple[Path, ...] = ()

    def inventory(self) -> Inventory:
        """What is there now. A folder is hashed again only when a file of it has come, gone or changed."""
        found: list[BundleInfo] = []
        refused: list[RefusedBundle] = []
        for folder in self._folders():
            result = _examined(folder, _signature(folder))
            if isinstance(result, RefusedBundle):
                refused.append(result)
            elif all(result.sha256 != other.sha256 for other in found):  # a copy is no second bundle
                found.append(result)
        for one in _ambiguous(found):
            found.remove(one)
            refused.append(RefusedBundle(one.folder.name, f"another bundle calls itself {one.ref.label} too"))
        return Inventory(tuple(sorted(found, key=_order)), tuple(refused))

    def _folders(self) -> Sequence[Path]:
        below = [path.parent for path in sorted(self.root.glob(f"*/{MANIFEST_NAME}"))]
        there = [path for path in self.also if (path / MANIFEST_NAME).is_file()]
        # a name with a leading dot is a pull under way, or what one left behind when it was killed
        return list({path.resolve(): path for path in [*there, *below] if not path.name.startswith(".")}.values())


def _order(info: BundleInfo) -> tuple[str, list[int]]:
    return info.name, [int(part) for part in info.version.split(".")]


def _ambiguous(found: Sequence[BundleInfo]) -> list[BundleInfo]:
    """Different bundles under one name and version: neither can be meant, so neither counts."""
    labels = [info.ref.label for info in found]
    return [info for info in found if labels.count(info.ref.label) > 1]


def _signature(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells that a folder has changed, without reading it."""
    stats = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return tuple((path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns) for path, stat in stats)


@lru_cache(maxsize=64)
def _examined(folder: Path, _files: tuple[tuple[str, int, int], ...]) -> BundleInfo | RefusedBundle:
    try:
        return open_bundle(folder)
    except BundleError as error:
        return RefusedBundle(folder.name, error.detail)
    except OSError as error:  # gone or unreadable meanwhile
        return RefusedBundle(folder.name, f"cannot be read ({type(error).__name__})")

"""A folder of bundles: what is there, and whether it is sound. Torch-free."""

from dataclasses import dataclass
from pathlib import Path

from reacquire.bundles.manifest import MANIFEST_NAME, Manifest, file_sha256, read_manifest, verify_files


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
class BundleStore:
    """The bundles that lie side by side in ``root``."""

    root: Path

    def list(self) -> list[BundleInfo]:
        """Every bundle of the folder, by name; a broken one raises, so that nobody serves beside it unawares."""
        return [open_bundle(path.parent) for path in sorted(self.root.glob(f"*/{MANIFEST_NAME}"))]

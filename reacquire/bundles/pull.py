"""Bundles from an object store into a folder, verified before they count. Nothing here runs when a worker starts.

The manifest comes first and says what else is fetched: exactly its files, under the names that its schema allows. They
land in a folder with a leading dot, which no store lists, and get their name by one rename when every hash fits.
"""

import shutil
import tempfile
from pathlib import Path

import obstore
import obstore.exceptions
from obstore.store import ObjectStore

from reacquire.bundles.manifest import MANIFEST_NAME, Manifest, read_manifest
from reacquire.bundles.store import BundleInfo, open_bundle
from reacquire.errors import BundleError
from reacquire.jobs.blobs import open_store

MANIFEST_BYTES = 2**22
CHUNK = 2**23


def pull_bundle(url: str, root: Path) -> tuple[BundleInfo, bool]:
    """Fetch the bundle at ``url`` (``s3://bucket/folder``) into ``root/NAME-VERSION``.

    Returns
    -------
    tuple[BundleInfo, bool]
        The verified bundle, and whether it was fetched now; one that is there already is verified and kept.

    Raises
    ------
    BundleError
        ``bundle-invalid`` for a manifest or file that is missing or altered, or when another bundle has the place;
        ``model-unavailable`` when the object store cannot be reached or refuses.
    """
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=root) as name:
        folder = Path(name) / "bundle"
        folder.mkdir()
        try:
            source = open_store(url)
            manifest = _fetch_manifest(source, folder)
            place = root / f"{manifest.name}-{manifest.version}"
            if place.exists():
                return _same(place, folder), False
            for file in manifest.files:
                _fetch(source, file, folder / file)
        except (FileNotFoundError, obstore.exceptions.NotFoundError):
            raise BundleError(f"there is no whole bundle at {url}: a file of it is missing") from None
        except (obstore.exceptions.BaseError, ValueError) as error:  # its text may hold a signed address
            kind = type(error).__name__
            raise BundleError(f"{url} cannot be read ({kind})", code="model-unavailable") from None
        open_bundle(folder)
        _settle(folder, place)
    return open_bundle(place), True


def _fetch_manifest(source: ObjectStore, folder: Path) -> Manifest:
    if obstore.head(source, MANIFEST_NAME)["size"] > MANIFEST_BYTES:
        raise BundleError(f"the {MANIFEST_NAME} there is too large to be one")
    _fetch(source, MANIFEST_NAME, folder / MANIFEST_NAME)
    return read_manifest(folder)


def _fetch(source: ObjectStore, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        for chunk in obstore.get(source, name).stream(min_chunk_size=CHUNK):
            stream.write(chunk)


def _same(place: Path, fetched: Path) -> BundleInfo:
    """The bundle that has the place already, if it is the one that was asked for."""
    info = open_bundle(place)
    if (place / MANIFEST_NAME).read_bytes() != (fetched / MANIFEST_NAME).read_bytes():
        raise BundleError(f"{place} holds another {info.ref.label}; a version is never overwritten, pack a new one")
    return info


def _settle(folder: Path, place: Path) -> None:
    try:
        folder.rename(place)
    except OSError:  # another pull was quicker
        if not place.exists():
            raise
        _same(place, folder)
        shutil.rmtree(folder)

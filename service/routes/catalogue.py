"""What the service can do: /capabilities, /models, and the meaning of every problem type."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from fastapi import APIRouter, HTTPException

from reacquire import __version__
from reacquire.bundles.manifest import MANIFEST_NAME
from reacquire.bundles.store import BundleInfo, BundleStore
from reacquire.dicom.syntaxes import SYNTAXES
from reacquire.errors import BundleError
from reacquire.iap import Categorical, Vocabulary
from reacquire.jobs.spec import HeaderValues, Operation, Options, SamplerName
from service.context import ContextDep
from service.errors import STATUS
from service.results import PREFERENCE

router = APIRouter(tags=["catalogue"])


def vocabulary_answer(vocabulary: Vocabulary) -> dict[str, Any]:
    """The parameters with units, categories and ranges."""
    parameters: list[dict[str, Any]] = []
    for p in vocabulary.parameters:
        common: dict[str, Any] = {"keyword": p.keyword, "symbol": p.symbol, "unit": p.unit}
        if isinstance(p, Categorical):
            parameters.append(common | {"kind": "categorical", "categories": list(p.categories)})
        else:
            parameters.append(common | {"kind": "continuous", "minimum": p.minimum, "maximum": p.maximum})
    return {
        "name": vocabulary.name,
        "sha256": vocabulary.sha256,
        "source": vocabulary.source,
        "parameters": parameters,
        "model_implies_manufacturer": dict(vocabulary.implied),
    }


@router.get("/capabilities", summary="Operations, parameters, limits, transfer syntaxes, samplers")
def capabilities(context: ContextDep) -> dict[str, Any]:
    limits, settings = context.limits, context.settings
    return {
        "version": __version__,
        "operations": {
            name: {"path": f"/v1/{name}", "results": list(PREFERENCE[name])} for name in get_args(Operation)
        },
        "vocabulary": vocabulary_answer(context.vocabulary),
        "options": Options.model_json_schema(),
        "samplers": list(get_args(SamplerName)),
        "header_values": list(get_args(HeaderValues)),
        "limits": {
            "body_bytes": settings.max_body_bytes,
            "instance_bytes": limits.instance_bytes,
            "series_bytes": limits.series_bytes,
            "instances": limits.instances,
            "rows_or_columns": limits.side,
            "queue": settings.max_queue,
            "wait_seconds": settings.max_wait_s,
            "result_ttl_seconds": settings.result_ttl_s,
        },
        "transfer_syntaxes": [{"uid": uid, "name": syntax.name} for uid, syntax in SYNTAXES.items()],
        "modalities": ["MR"],
        "sites": list(context.pacs.sites),
    }


def installed(root: Path) -> Sequence[BundleInfo]:
    """The verified bundles of a folder. Their files are hashed again only when a manifest has come, gone or changed."""
    manifests = sorted(root.glob(f"*/{MANIFEST_NAME}"))
    return _verified(root, tuple((path, path.stat().st_mtime_ns) for path in manifests))


@lru_cache(maxsize=4)
def _verified(root: Path, _manifests: tuple[tuple[Path, int], ...]) -> Sequence[BundleInfo]:
    return tuple(BundleStore(root).list())


def model_answer(info: BundleInfo) -> dict[str, Any]:
    """What is told of a bundle."""
    return {
        "name": info.name,
        "version": info.version,
        "sha256": info.sha256,
        "description": info.description,
        "unseen": info.unseen,
        "metrics": info.metrics,
    }


@router.get("/models", summary="The bundles of weights that are installed, and who serves which")
def models(context: ContextDep) -> dict[str, Any]:
    workers = context.presence.alive().values()
    return {
        "models": [model_answer(info) for info in installed(context.settings.bundles_root)],
        "workers": [{"bundle": w.bundle, "device": w.device, "busy": w.busy} for w in workers],
    }


@router.get("/models/{name}", summary="One bundle")
def model(name: str, context: ContextDep) -> dict[str, Any]:
    bundles = {info.name: info for info in installed(context.settings.bundles_root)}
    if name not in bundles:
        known = ", ".join(bundles) or "none"
        raise BundleError(f"no bundle of that name; there are: {known}", code="model-not-found")
    return model_answer(bundles[name])


problems = APIRouter(tags=["catalogue"])


@problems.get("/problems/{code}", summary="What a problem type means")
def problem_type(code: str) -> dict[str, Any]:
    if code not in STATUS:
        raise HTTPException(404)
    return {"type": f"/problems/{code}", "title": code.replace("-", " ").capitalize(), "status": STATUS[code]}

"""What the service can do: /capabilities, /models, and the meaning of every problem type."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self, get_args

import redis
from fastapi import APIRouter, HTTPException

from reacquire import __version__
from reacquire.bundles.store import BundleInfo, BundleStore, Inventory
from reacquire.dicom.syntaxes import SYNTAXES
from reacquire.errors import BundleError
from reacquire.iap import Categorical, Vocabulary
from reacquire.jobs.activation import Activation
from reacquire.jobs.presence import WorkerInfo
from reacquire.jobs.spec import HeaderValues, Operation, Options, SamplerName
from service.context import Context, ContextDep
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


NOTHING = Activation()


@dataclass(frozen=True)
class Live:
    """What Redis knows of bundles; ``known`` is False while it cannot be reached."""

    known: bool = False
    activation: Activation = NOTHING
    workers: Sequence[WorkerInfo] = ()

    @classmethod
    def of(cls, context: Context) -> Self:
        """As it is now: the folder of bundles can be listed without Redis."""
        try:
            return cls(True, context.activations.read(), tuple(context.presence.alive().values()))
        except redis.RedisError:
            return cls()


def inventory(context: Context) -> Inventory:
    """The bundles of this process' folder; hashed again only where a file has changed."""
    return BundleStore(context.settings.bundles_root).inventory()


def model_answer(info: BundleInfo, live: Live) -> dict[str, Any]:
    """What is told of a bundle."""
    return {
        "name": info.name,
        "version": info.version,
        "sha256": info.sha256,
        "active": info.ref == live.activation.active,
        "previous": info.ref == live.activation.previous,
        "warm_workers": sum(info.sha256 in worker.warm for worker in live.workers),
        "description": info.description,
        "unseen": info.unseen,
        "metrics": info.metrics,
    }


@router.get("/models", summary="The bundles of weights that are installed, which is active, and who has which warm")
def models(context: ContextDep) -> dict[str, Any]:
    live, found = Live.of(context), inventory(context)
    active = live.activation.active
    return {
        "live": live.known,
        "active": asdict(active) if active else None,
        "models": [model_answer(info, live) for info in found.sound],
        "refused": [asdict(refused) for refused in found.refused],
        "workers": [
            {"bundle": w.bundle, "device": w.device, "busy": w.busy, "warm": list(w.warm.values())}
            for w in live.workers
        ],
    }


@router.get("/models/{name}", summary="One bundle: NAME@VERSION, or NAME for its active or else newest version")
def model(name: str, context: ContextDep) -> dict[str, Any]:
    live, found = Live.of(context), inventory(context)
    if "@" in name:
        return model_answer(found.find(name), live)
    versions = [info for info in found.sound if info.name == name]
    if not versions:
        raise BundleError(f"no sound bundle of that name; there are: {found.labels}", code="model-not-found")
    shown = next((info for info in versions if info.ref == live.activation.active), versions[-1])
    return model_answer(shown, live) | {"versions": [info.version for info in versions]}


problems = APIRouter(tags=["catalogue"])


@problems.get("/problems/{code}", summary="What a problem type means")
def problem_type(code: str) -> dict[str, Any]:
    if code not in STATUS:
        raise HTTPException(404)
    return {"type": f"/problems/{code}", "title": code.replace("-", " ").capitalize(), "status": STATUS[code]}

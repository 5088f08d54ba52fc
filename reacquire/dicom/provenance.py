"""What a counterfactual must say about its making: bundle, software, parameters before and after, options."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Value = str | float


@dataclass(frozen=True)
class Provenance:
    """How a counterfactual came about.

    Attributes
    ----------
    bundle_name, bundle_version, bundle_sha256 : str
        The weights.
    service_version : str
        Version of this software.
    target : mapping
        Acquisition parameters by keyword that the pixels are meant to show (complete, as resolved).
    source : mapping
        The slice's own parameters as far as they are known.
    provenance : mapping
        Per keyword, where the target value came from (``reacquire.iap.resolve.Provenance``).
    options : mapping
        JSON-able options of the job: sampler, steps, guidance scale, seed.
    """

    bundle_name: str
    bundle_version: str
    bundle_sha256: str
    service_version: str
    target: Mapping[str, Value]
    source: Mapping[str, Value] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Canonical ASCII JSON: equal provenance, equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    def changes(self) -> dict[str, tuple[Value | None, Value]]:
        """By keyword, (source or None, target) of the parameters whose value differs from the source's."""
        return {k: (self.source.get(k), v) for k, v in sorted(self.target.items()) if self.source.get(k) != v}

    def software(self) -> list[str]:
        """Values for SoftwareVersions, each within the 64 characters of LO."""
        bundle = f"{self.bundle_name} {self.bundle_version}"[:40]
        return [f"Reacquire {self.service_version}"[:64], f"{bundle} {self.bundle_sha256[:16]}"]

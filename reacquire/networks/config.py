"""What every network configuration shares: a frozen dataclass that goes to a plain dict and back.

Configurations live in bundle manifests, so reading one is strict: a key that this version does not know is refused
rather than ignored, because ignoring it would build another network than the one that was trained.
"""

from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class NetworkConfig:
    """Base of the three configurations."""

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON types only (tuples become lists)."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises
        ------
        ValueError
            For a key that the configuration does not have, or a required one that is absent.
        """
        known = {f.name for f in fields(cls)}
        required = {f.name for f in fields(cls) if f.default is MISSING}
        if unknown := sorted(set(data) - known):
            raise ValueError(f"{cls.__name__} has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        if absent := sorted(required - set(data)):
            raise ValueError(f"{cls.__name__} needs {', '.join(absent)}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})

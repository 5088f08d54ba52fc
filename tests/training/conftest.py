"""The Redis fixtures, for the tests of this folder that fan out over workers."""

from redis_fixture import blobs, config, quiet_structlog, redis_url, store

__all__ = ["blobs", "config", "quiet_structlog", "redis_url", "store"]

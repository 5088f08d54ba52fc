"""How much one caller may ask for: requests a minute (a moving window in Redis, so it holds over all API processes).

The window is the ``limits`` library's. When Redis is away nothing can be queued either, so the failure is the store's.
"""

from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

from reacquire.access.principal import Principal
from reacquire.errors import AccessError


class Budget:
    """Counts what callers start; ``redis_url`` as redis-py takes it, keys below ``prefix``."""

    def __init__(self, redis_url: str, prefix: str) -> None:
        self._limiter = MovingWindowRateLimiter(RedisStorage(redis_url, key_prefix=f"{prefix}:rate"))

    def spend(self, principal: Principal) -> None:
        """Count one request of ``principal``.

        Raises
        ------
        AccessError
            ``rate-limited`` when its minute is used up.
        """
        if principal.per_minute is None:
            return
        if not self._limiter.hit(RateLimitItemPerMinute(principal.per_minute), principal.id):
            raise AccessError(
                f"at most {principal.per_minute} requests a minute with this key; try again later", code="rate-limited"
            )

"""The messages: Celery over Redis, carrying a job id each and nothing else.

A message is a wake-up call. Losing, repeating or reordering it changes nothing but the waiting time, since the store
decides who runs what. Publishing is by task name, so the service needs none of the worker's code.
"""

import ssl
from collections.abc import Iterable
from typing import Any

from celery import Celery

from reacquire.jobs.config import JobsConfig

TASK = "reacquire.run"
QUEUE = "reacquire"
NORMAL, URGENT = 6, 0  # kombu's Redis transport serves 0 first; taken-over jobs have waited long enough


def broker_url(redis_url: str) -> str:
    """The same server in Celery's spelling: ``unix:///path?db=0`` is ``redis+socket:///path?virtual_host=0`` there."""
    if not redis_url.startswith("unix://"):
        return redis_url
    return "redis+socket://" + redis_url.removeprefix("unix://").replace("?db=", "?virtual_host=")


def broker_tls(redis_url: str) -> dict[str, Any] | None:
    """Verify the server of a ``rediss://`` address against the system's authorities, as redis-py does by itself.

    kombu alone would take any certificate. What the address itself says (``?ssl_ca_certs=/ca.pem``) takes its place.
    """
    if not redis_url.startswith("rediss://"):
        return None
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}


def celery_app(config: JobsConfig) -> Celery:
    """A Celery application that can publish and consume; results are ours to keep, so it has no result backend."""
    url = config.redis_url.get_secret_value()
    app = Celery("reacquire", broker=broker_url(url), set_as_current=False)
    app.conf.update(
        broker_use_ssl=broker_tls(url),
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=QUEUE,
        task_default_priority=NORMAL,
        task_create_missing_queues=True,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": config.visibility_timeout_s,
            "global_keyprefix": f"{config.key_prefix}:broker:",
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "retry_on_timeout": True,
        },
    )
    return app


class Publisher:
    """Sends job ids to the workers."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def publish(self, ids: Iterable[str], *, priority: int = NORMAL) -> None:
        """Send a message per id; raises kombu's ``OperationalError`` when the broker can't be reached.

        Two quick attempts: a job whose message fails stays queued, and the reconciler sends it again.
        """
        policy = {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}
        for job_id in ids:
            self._app.send_task(TASK, args=[job_id], queue=QUEUE, priority=priority, retry=True, retry_policy=policy)

    def waiting(self) -> int:
        """Messages that no worker has fetched."""
        with self._app.connection_for_write() as connection:
            channel = connection.default_channel
            return int(channel._size(QUEUE))

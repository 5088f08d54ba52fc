"""Over ``rediss://`` nobody gives jobs or the password to a server that cannot show who it is."""

import os
import shutil
import socket
import ssl
import subprocess
import time
from unittest.mock import MagicMock

import pytest
import redis
from certificates import self_signed
from kombu import pools
from kombu.exceptions import OperationalError
from pydantic import SecretStr

from reacquire.access.budget import Budget
from reacquire.access.principal import Principal
from reacquire.jobs import JobsConfig
from reacquire.jobs.broker import Publisher, celery_app
from reacquire.jobs.store import connect


def broker_connection(url):
    """What kombu opens its sockets with."""
    with celery_app(JobsConfig(redis_url=SecretStr(url))).connection_for_write() as connection:
        stand_in = MagicMock(connection_class=redis.Connection, connection_class_ssl=redis.SSLConnection)
        stand_in.connection.client, stand_in.connection.default_port = connection, 6379
        stand_in._prepare_virtual_host.return_value = 0
        return connection.transport.Channel._connparams(stand_in)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("rediss://:pw-of-redis@redis.example:6379/0", ssl.CERT_REQUIRED),
        ("rediss://redis.example/0?ssl_ca_certs=/etc/own.pem", ssl.CERT_REQUIRED),
        ("rediss://redis.example/0?ssl_cert_reqs=none", ssl.CERT_NONE),
    ],
)
def test_the_broker_verifies_unless_the_address_says_otherwise(url, wanted):
    made = broker_connection(url)
    assert issubclass(made["connection_class"], redis.SSLConnection)
    opened = redis.SSLConnection(**{name: value for name, value in made.items() if name.startswith("ssl_")})
    assert (opened.cert_reqs, opened.ca_certs) == (wanted, "/etc/own.pem" if "ssl_ca_certs" in url else None)


def test_a_plain_address_stays_plain():
    made = broker_connection("redis://redis.example:6379/0")
    assert not issubclass(made["connection_class"], redis.SSLConnection)


def started(server, port, folder):
    """The process of a server that listens to TLS alone, or None when ``server`` was built without it."""
    public, private = folder / "server.pem", folder / "server.key"
    options = ["--port", "0", "--tls-port", str(port), "--tls-cert-file", str(public), "--tls-key-file", str(private)]
    options += ["--tls-ca-cert-file", str(public), "--tls-auth-clients", "no", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([server, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.02)
    process.kill()
    process.wait()
    return None


@pytest.fixture
def tls_redis(tmp_path):
    """The address of a Redis that speaks TLS alone, and the file of its authority."""
    self_signed(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    servers = [found for folder in os.get_exec_path() if (found := shutil.which("redis-server", path=folder))]
    process = next((process for server in servers if (process := started(server, port, tmp_path))), None)
    if process is None:
        pytest.skip("no redis-server that speaks TLS on this machine (Debian's does)")
    yield f"rediss://127.0.0.1:{port}/0", tmp_path / "server.pem"
    process.kill()
    process.wait()


def clients(url):
    """Each client that the processes have, as a call that reaches the server."""
    config = JobsConfig(redis_url=SecretStr(url))
    caller = Principal("key-1", frozenset(), per_minute=9)
    return {
        "broker": (lambda: Publisher(celery_app(config)).publish(["0" * 32]), OperationalError),
        "store": (lambda: connect(config).ping(), redis.ConnectionError),
        "budget": (lambda: Budget(url, "t").spend(caller), redis.ConnectionError),
    }


@pytest.mark.parametrize("name", ["broker", "store", "budget"])
def test_a_server_of_an_unknown_authority_gets_nothing(tls_redis, name):
    url, authority = tls_redis
    call, refusal = clients(url)[name]
    with pytest.raises(refusal, match="certificate verify failed"):
        call()
    pools.reset()  # they take two addresses of one server for the same
    call, _ = clients(f"{url}?ssl_ca_certs={authority}")[name]
    call()


def test_the_authorities_of_the_system_count(tls_redis, monkeypatch):
    url, authority = tls_redis
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    Publisher(celery_app(JobsConfig(redis_url=SecretStr(url)))).publish(["0" * 32])

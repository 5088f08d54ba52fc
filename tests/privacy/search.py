"""Looks for the marks in everything that the processes left behind or said."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import redis
from marked import MARKS

Said = tuple[str, str]  # where, text


def leaks(said: Iterable[Said]) -> list[str]:
    """Where a mark occurs, with a little of what stands around it."""
    found = []
    for where, text in said:
        low = text.lower()
        for mark in MARKS:
            at = low.find(mark.lower())
            if at >= 0:
                found.append(f"{where}: ...{text[max(0, at - 80) : at + 60]}")
                break
    return found


def files(folder: Path, suffix: str) -> Iterator[Said]:
    """Every line of text files."""
    for path in sorted(folder.glob(f"*{suffix}")):
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            yield f"{path.name}:{number}", line


def names(folder: Path) -> Iterator[Said]:
    """The names of all files and folders below, and links' targets."""
    for path in sorted(folder.rglob("*")):
        yield "name", str(path.relative_to(folder))


def small_files(folder: Path) -> Iterator[Said]:
    """The content of the files that keep the spool in order; images lie in *.dcm."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".dcm":
            yield f"spool {path.name}", path.read_bytes().decode("latin-1")


def dump(client: redis.Redis) -> Iterator[Said]:
    """Every key of a Redis with its value."""
    for key in client.scan_iter(count=1000):
        yield "redis key", str(key)
        yield f"redis value of {key}", json.dumps(_value(client, str(key)), default=str)


def _value(client: redis.Redis, key: str) -> Any:
    readers = {
        "string": client.get,
        "hash": client.hgetall,
        "list": lambda k: client.lrange(k, 0, -1),
        "set": lambda k: sorted(client.smembers(k)),  # type: ignore[type-var,arg-type]
        "zset": lambda k: client.zrange(k, 0, -1, withscores=True),
        "stream": lambda k: client.xrange(k),
    }
    return readers[str(client.type(key))](key)

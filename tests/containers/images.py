"""Images built by buildah without a container engine, and run confined: read-only root, own user, tmpfs on /tmp.

``chroot`` isolation needs root but no daemon and no registry: the base is a debootstrapped Debian, made once. What runs
is what the image's own configuration says (user, variables, command, health check).
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reacquire import __version__

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("buildah", "debootstrap", "redis-server", "unshare", "nsenter")
BASE = "localhost/reacquire-base:bookworm"
WASTE = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
# a private view of the root file system: read-only, with proc and dev, /tmp in memory, and three mounts
VIEW = """
set -e
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/tmp"
mount --bind "$DATA" "$ROOT/var/lib/reacquire"
mount --bind "$FILES" "$ROOT/mnt"
mount -o remount,bind,ro "$ROOT"
exec "$@"
"""


def missing_tools() -> list[str]:
    return [tool for tool in TOOLS if shutil.which(tool) is None]


@dataclass(frozen=True)
class Builder:
    """buildah with its storage below ``work``, at the lowest priority."""

    work: Path

    def run(self, *arguments: str) -> str:
        """The output of ``buildah ...``; its errors go where ours go."""
        storage = ["--root", str(self.work / "storage"), "--runroot", str(self.work / "run")]
        command = ["nice", "-n", "19", "buildah", *storage, "--storage-driver", "overlay", *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout.strip()

    def sizes(self) -> dict[str, int]:
        """Bytes of every named image."""
        found = json.loads(self.run("images", "--json"))
        return {name: _bytes(image["size"]) for image in found for name in image["names"] or ()}

    def base(self) -> None:
        """Debian 12 with its Python 3.11, as small as it goes."""
        if BASE in self.sizes():
            return
        packages = "--include=python3.11,python3-venv,ca-certificates"
        tree = Path(tempfile.mkdtemp(prefix="base-", dir=self.work))
        tree.chmod(0o755)
        # in a mount namespace of its own: what it mounts into the tree must not outlive it when it is killed
        alone = ["unshare", "--mount", "nice", "-n", "19"]
        subprocess.run(
            [*alone, "debootstrap", "--variant=minbase", packages, "bookworm", str(tree)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for folder in WASTE:
            shutil.rmtree(tree / folder, ignore_errors=True)
        (tree / "usr/local/bin/python").symlink_to("/usr/bin/python3.11")
        container = self.run("from", "scratch")
        self.run("add", "-q", container, str(tree), "/")
        self.run("config", "--env", "LANG=C.UTF-8", container)
        self.run("commit", "-q", "--rm", container, BASE)
        shutil.rmtree(tree)

    @staticmethod
    def name(target: str) -> str:
        """The image of a target of docker/Dockerfile."""
        return f"localhost/reacquire-{target}:test"

    def build(self, target: str) -> None:
        self.run(
            *("bud", "--isolation", "chroot", "--format", "docker", "--layers", "-q", *self._pip_mounts()),
            *(
                "--build-arg",
                f"PYTHON_IMAGE={BASE}",
                "--target",
                target,
                "-t",
                self.name(target),
                "-f",
                "docker/Dockerfile",
                ".",
            ),
        )

    def save(self, target: str, folder: Path) -> None:
        """Write an image as an archive that ``docker load`` and ``skopeo copy`` read; one that is there is replaced."""
        archive = folder / f"reacquire-{target}.tar"
        archive.unlink(missing_ok=True)
        self.run("push", "-q", self.name(target), f"docker-archive:{archive}:reacquire-{target}:{__version__}")

    def _pip_mounts(self) -> Iterator[str]:
        """The builder's own pip configuration (proxies, mirrors, local wheels), which is no business of the image."""
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        found = dict(re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", listed, flags=re.MULTILINE))
        config = self.work / "pip.conf"
        lines = [f"{key} = " + "\n  ".join(value.replace("\\n", " ").split()) for key, value in found.items()]
        config.write_text("[global]\n" + "\n".join(lines) + "\n", encoding="utf-8")
        yield from ("--volume", f"{config}:/etc/pip.conf:ro")
        for path in {Path(p) for p in re.findall(r"(?:file://)?(/[^\s']+)", " ".join(found.values()))}:
            folder = path.parent if path.name == "simple" else path  # a PEP 503 index names files beside it
            if folder.exists() and len(folder.parts) > 2:
                yield from ("--volume", f"{folder}:{folder}:ro")


def _bytes(text: str) -> int:
    number, unit = re.fullmatch(r"([\d.]+) ?([kMG]?)B", text).groups()  # type: ignore[union-attr]
    return round(float(number) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit])


@dataclass(frozen=True)
class Running:
    """A process of an image in its own view of the file system."""

    process: "subprocess.Popen[bytes]"
    root: Path
    config: Mapping[str, Any]
    environment: Mapping[str, str]

    def inside(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command beside the process, as its user."""
        enter = ["nsenter", "--target", str(self.process.pid), "--mount"]
        return subprocess.run(
            [*enter, *_chroot(self.root, self.config, self.environment), *command], capture_output=True, text=True
        )

    def wait_until_healthy(self, patience_s: float) -> float:
        """Seconds until the image's own health check passed."""
        started = time.monotonic()
        check = self.config["Healthcheck"]["Test"]
        assert check[0] == "CMD", "health checks use no shell"
        while (tried := self.inside(*check[1:])).returncode != 0:
            if self.process.poll() is not None:
                raise SystemExit(f"the process ended with status {self.process.returncode}")
            if time.monotonic() - started > patience_s:
                raise SystemExit(f"not healthy after {patience_s:.0f} s: {tried.stderr[-500:]}")
            time.sleep(0.5)
        return time.monotonic() - started


def _chroot(root: Path, config: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    variables = [*config["Env"], *(f"{name}={value}" for name, value in environment.items())]
    directory = config.get("WorkingDir") or "/"
    return [
        *("chroot", f"--userspec={config['User']}", str(root)),
        *("/usr/bin/env", "-i", f"--chdir={directory}", *variables),
    ]


@contextmanager
def running(
    builder: Builder, image: str, data: Path, environment: Mapping[str, str], command: Sequence[str] = ()
) -> Iterator[Running]:
    """Start ``command``, or the image's own, with ``data`` on /var/lib/reacquire and the chart's files on /mnt."""
    config = json.loads(builder.run("inspect", "--type", "image", image))["Docker"]["config"]
    container = builder.run("from", image)
    root = Path(builder.run("mount", container))
    view = {"ROOT": str(root), "DATA": str(data), "FILES": str(ROOT / "helm" / "reacquire" / "files")}
    start = ["unshare", "--mount", "sh", "-c", VIEW, "view"]
    started = [*_chroot(root, config, environment), *(command or [*(config["Entrypoint"] or ()), *config["Cmd"]])]
    process = subprocess.Popen([*start, *started], env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **view})
    try:
        yield Running(process, root, config, environment)
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        finally:
            process.kill()
            builder.run("rm", container)

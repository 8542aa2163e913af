"""Everything a deployment has, as processes of this machine, on loopback and on ports of their own.

Each part can be killed and started again. All of it is ended with the block.
"""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.journeys.processes import ROOT, answers, free_port, until


class Missing(Exception):
    """A program that is needed is not installed; the text says how it is."""


class Part:
    """One process and what it starts."""

    def __init__(
        self, name: str, command: Sequence[str], *, folder: Path, environment: dict[str, str]
    ) -> None:
        self.name, self.command, self.environment = name, command, environment
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        """The process and all its children at once, as when the machine goes."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass
        self.process.wait(timeout=30)
        self.process = None

    def children(self) -> list[int]:
        assert self.process is not None
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]


class Postgres:
    """A cluster of its own, with PostgreSQL's own durability settings."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.data, self.port = _postgres_bin(), folder / "postgres", free_port()
        self.data.mkdir()
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/load"
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self.data, "postgres")
            folder.chmod(0o755)
        self._run("initdb", "--pgdata", str(self.data), "--auth=trust", "--username=postgres")
        self.start()
        self._run("createdb", "--host=127.0.0.1", f"--port={self.port}", "--username=postgres", "load")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.data}"
        self._run(
            "pg_ctl", "--pgdata", str(self.data), "--wait", "-o", options, "-l", f"{self.data}/log", "start"
        )

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "--pgdata", str(self.data), "--wait", f"--mode={mode}", "stop")

    def _run(self, name: str, *arguments: str) -> None:
        command = [f"{self.bin}/{name}", *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


class Stack:
    """PostgreSQL, Redis, the simulator, gunicorn, a worker, beat."""

    def __init__(self, folder: Path) -> None:
        for program, package in (("wrk", "wrk"), ("redis-server", "redis-server")):
            if shutil.which(program) is None:
                raise Missing(f"{program} is not installed: apt-get install {package}")
        self.folder = folder
        self.postgres = Postgres(folder)
        redis_port, self.web_port, simulator_port = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.web_port}"
        self.simulator_url = f"http://127.0.0.1:{simulator_port}"
        self.environment = self._environment(redis_port)
        redis = ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", ""]
        celery = [sys.executable, "-m", "celery", "-A", "marketplace_saas"]
        self.redis = self._part("redis", redis)
        self.simulator = self._part(
            "simulator",
            [sys.executable, "manage.py", "marketplace_simulator", f"--port={simulator_port}", "--quick",
             "--no-quotas", "--catalog=marketplace_saas/catalog.json"],
        )  # fmt: skip
        self.web = self._part(
            "web",
            [
                sys.executable,
                "-m",
                "gunicorn",
                "-c",
                "python:marketplace_saas.serving",
                "marketplace_saas.wsgi",
            ],
        )
        self.worker = self._part(
            "worker",
            [*celery, "worker", "--concurrency=2", "--without-mingle", "--without-gossip", "--loglevel=INFO"],
        )
        self.beat = self._part("beat", [*celery, "beat", "--pidfile=", "--loglevel=INFO"])

    def _part(self, name: str, command: Sequence[str]) -> Part:
        return Part(name, command, folder=self.folder, environment=self.environment)

    def _environment(self, redis_port: int) -> dict[str, str]:
        services = ("METERING", "ENTITLEMENT_SERVICE", "AGREEMENT")
        return {
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "tests.load.settings",
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
            "DATA_DIR": str(self.folder / "data"),
            "LOG_FORMAT": "json",
            "WEB_CONCURRENCY": "2",
            "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{self.web_port}",
            "MARKETPLACE_EVENT_QUEUES": f"{self.simulator_url}/000000000000/marketplace-events",
            "METERING_CALLS_PER_SECOND": "0",
            "AWS_ENDPOINT_URL_SQS": self.simulator_url,
            **{f"AWS_ENDPOINT_URL_MARKETPLACE_{name}": self.simulator_url for name in services},
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "load",
            "AWS_SECRET_ACCESS_KEY": "load",
        }

    def manage(self, *arguments: str) -> None:
        command = [sys.executable, "manage.py", *arguments]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        self.redis.start()
        self.simulator.start()
        self.manage("migrate", "--verbosity=0")
        self.manage("load_catalog")
        for part in (self.web, self.worker, self.beat):
            part.start()
        until(lambda: answers(f"{self.simulator_url}/"), what="the simulator")
        until(lambda: answers(f"{self.url}/readyz"), what="the site")

    def stop(self) -> None:
        for part in (self.beat, self.worker, self.web, self.simulator, self.redis):
            part.kill()
        self.postgres.stop("immediate")


@contextmanager
def running(folder: Path) -> Iterator[Stack]:
    stack = Stack(folder)
    try:
        stack.start()
        yield stack
    finally:
        time.sleep(0.2)
        stack.stop()


def _postgres_bin() -> str:
    versions = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: float(path.split("/")[4]))
    found = versions[-1] if versions else os.path.dirname(shutil.which("initdb") or "")
    if not os.path.exists(f"{found}/initdb"):
        raise Missing("PostgreSQL's server is not installed: apt-get install postgresql")
    return found

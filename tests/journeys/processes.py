"""Servers and workers as processes of their own, and waiting for what they do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from django.conf import settings
from django.db import connection

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def until(happened: Callable[[], object], *, seconds: float = 30, what: str = "it") -> Any:
    """Wait for a truthy answer, and give it back."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} seconds"
        time.sleep(0.1)
    return found


def answers(url: str, *, status: int = 200, **options: Any) -> bool:
    try:
        return requests.get(url, timeout=5, allow_redirects=False, **options).status_code == status
    except requests.ConnectionError:
        return False


def database_url() -> str:
    """This test's own database."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    password = f":{quote(database['PASSWORD'], safe='')}" if database["PASSWORD"] else ""
    address = f"{database['USER']}{password}@{database['HOST']}:{database['PORT']}"
    return f"postgres://{address}/{database['NAME']}"


def as_the_tests(**environment: str) -> dict[str, str]:
    """The environment of a process that works on this test's database and simulator."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database_url(),
        "MARKETPLACE_EVENT_QUEUES": ",".join(settings.MARKETPLACE_EVENT_QUEUES),
        **environment,
    }


def manage(*arguments: str, **environment: str) -> str:
    """What a command of manage.py says, which must succeed: on this test's database unless told otherwise."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=as_the_tests(**environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def running(
    command: Sequence[str], *, log: Path, cwd: Path | None = None, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own: what it leaves behind is ended with the block. Its log is shown."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd or ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait(timeout=10)
        sys.stdout.write(log.read_text(errors="replace")[-20_000:])

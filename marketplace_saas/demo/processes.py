"""The demo's children: simulator, web server, worker. Their output goes to log files, not to the screen."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import requests

START_SECONDS = 60
STOP_SECONDS = 10


class ProcessProblem(Exception):
    """A child did not start or died; the message says which and shows the end of its log."""


def refuse_busy_port(port: int, variable: str) -> None:
    """Raise ProcessProblem naming the port and the variable that changes it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OverflowError as error:
            raise ProcessProblem(f"{variable}={port} is no port: take one up to 65535.") from error
        except OSError as error:
            raise ProcessProblem(
                f"Port {port} is busy. Stop what uses it, or choose another: make demo {variable}={port + 1}"
            ) from error


class Children:
    """Starts processes, notices when one dies, stops them all."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._running: list[tuple[str, subprocess.Popen[bytes], IO[bytes]]] = []

    def start(self, name: str, *arguments: str) -> None:
        log = (self._folder / f"{name}.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self._environment,
            # A session of its own: Ctrl-C reaches only the parent, which stops the children in order.
            start_new_session=True,
        )
        self._running.append((name, process, log))

    def check(self) -> None:
        """Raise ProcessProblem if one has died."""
        for name, process, _ in self._running:
            if process.poll() is not None:
                log = self._folder / f"{name}.log"
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise ProcessProblem(
                    f"{name} stopped with status {process.returncode}. The end of {log}:\n{tail}"
                )

    def wait_for(self, url: str) -> None:
        """Until ``url`` answers 200."""
        deadline = time.monotonic() + START_SECONDS
        with requests.Session() as session:
            session.trust_env = False
            while time.monotonic() < deadline:
                self.check()
                try:
                    if session.get(url, timeout=5).status_code == 200:
                        return
                except requests.RequestException:
                    time.sleep(0.2)
        raise ProcessProblem(f"{url} did not answer within {START_SECONDS} seconds; see {self._folder}.")

    def stop(self) -> None:
        """Ask all to finish, the last started first; insist after a while."""
        for _, process, _ in reversed(self._running):
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for _, process, log in self._running:
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()
        self._running.clear()

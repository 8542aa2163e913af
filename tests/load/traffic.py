"""What buyers do meanwhile: they look at pages, they arrive from AWS, their product is used."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from billing.error_reports import TOKEN_FIELD
from billing.simulator.client import SimulatorControl

REPORT = Path(__file__).parent / "report.lua"


def wrk(url: str, *, seconds: int, connections: int = 8, cookie: str = "") -> subprocess.Popen[str]:
    command = [
        "wrk",
        "-t",
        "1",
        "-c",
        str(connections),
        "-d",
        f"{seconds}s",
        "--timeout",
        "10s",
        "-s",
        str(REPORT),
    ]
    headers = ["-H", f"Cookie: {cookie}"] if cookie else []
    return subprocess.Popen([*command, *headers, url], stdout=subprocess.PIPE, text=True)


def figures(process: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = process.communicate()
    return dict(json.loads(next(line for line in said.splitlines() if line.startswith("{"))))


@dataclass
class Steady(threading.Thread):
    """Does one thing again and again until it is told to stop."""

    each: float  # seconds

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not self._over.wait(self.each):
            self.once()

    def once(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        self._over.set()
        self.join(timeout=30)


@dataclass(eq=False)
class Looking(Steady):
    """Asks for each page in turn and remembers when it got none."""

    pages: Mapping[str, Callable[[], bool]]
    seen: list[tuple[float, str, bool]] = field(default_factory=list)

    def once(self) -> None:
        for name, look in self.pages.items():
            began = time.monotonic()
            try:
                good = look()
            except requests.RequestException:
                good = False
            self.seen.append((began, name, good))

    def failures(self, since: float, until: float) -> list[tuple[float, str, bool]]:
        return [seen for seen in self.seen if since <= seen[0] < until and not seen[2]]


@dataclass(eq=False)
class Arriving(Steady):
    """Somebody buys and is sent to us with a token; who is turned away goes to AWS and comes again."""

    url: str
    control: SimulatorControl
    bought: list[str] = field(default_factory=list)
    arrived: list[str] = field(default_factory=list)
    turned_away: int = 0
    waiting: list[Any] = field(default_factory=list)

    def once(self) -> None:
        new = self.control.subscribe("reports-payg")
        self.bought.append(str(new.license_arn))
        self.waiting, again = [], [*self.waiting, new]
        for subscription in again:
            if self._post(subscription.token):
                self.arrived.append(str(subscription.license_arn))
            else:
                self.turned_away += 1
                self.waiting.append(subscription)

    def _post(self, token: str) -> bool:
        try:
            response = requests.post(
                f"{self.url}/marketplace/register/", {TOKEN_FIELD: token}, timeout=15, allow_redirects=False
            )
        except requests.RequestException:
            return False
        return response.status_code == 303


@dataclass(eq=False)
class Using(Steady):
    """A render machine sends its log. What is not confirmed it sends again, the same."""

    url: str
    slug: str
    session: str
    hours: int
    confirmed: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _unsure: list[tuple[str, str]] = field(default_factory=list)

    def once(self) -> None:
        number = next(self._numbers)
        hour = datetime.now(UTC) - timedelta(hours=1 + number % self.hours)
        job = f"load-{number}"
        self._unsure.append((job, f"{job},{hour.isoformat()},2,load"))
        for job, line in list(self._unsure):
            if not self._send(line):
                self.refused += 1
                return
            self.confirmed[job] = 2
            self._unsure.remove((job, line))

    def _send(self, line: str) -> bool:
        token = "x" * 32
        try:
            response = requests.post(
                f"{self.url}/o/{self.slug}/reports/render-log/",
                {"log": line, "csrfmiddlewaretoken": token},
                cookies={"sessionid": self.session, "csrftoken": token},
                timeout=15,
                allow_redirects=False,
            )
        except requests.RequestException:
            return False
        return response.status_code == 302

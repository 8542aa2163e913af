"""Many posters at one simulator, and what they were promised. Run as a module, it is that simulator."""

from __future__ import annotations

import http.client
import json
import random
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from billing.simulator import journal
from billing.simulator.catalog import read_product
from billing.simulator.client import SimulatorControl
from billing.simulator.server import SimulatorServer
from billing.simulator.state import State
from billing.simulator.switches import Switches

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOURS = 20
PRODUCT = {
    "code": "load",
    "pricing": "subscription",
    "dimensions": [{"key": "pages", "kind": "metered", "price": "0.1"}],
}
HEADERS = {
    "Content-Type": "application/x-amz-json-1.1",
    "X-Amz-Target": "AWSMPMeteringService.BatchMeterUsage",
    "Authorization": "AWS4-HMAC-SHA256 Credential=k/20261123/us-east-1/aws-marketplace/aws4_request,"
    " SignedHeaders=host, Signature=" + "0" * 64,
}
Key = tuple[str, datetime]
"""License and hour: there is one account to a license, one dimension and one Region."""


def seller() -> State:
    return State([read_product(PRODUCT)], switches=Switches(quotas=False))


def licenses(control: SimulatorControl, count: int) -> dict[str, str]:
    """Licenses old enough for every hour of the load, and their accounts; the clock stands at noon."""
    control.freeze(NOON)
    since = NOON - timedelta(hours=HOURS + 1)
    bought = [control.subscribe("load", started_at=since) for _ in range(count)]
    return {str(each.license_arn): each.aws_account_id for each in bought}


class Posters:
    """Threads that post batches of the same few keys with differing quantities, until ``stop`` or refused."""

    def __init__(self, url: str, accounts: dict[str, str], *, threads: int, seed: int) -> None:
        self.promised: dict[Key, set[int]] = defaultdict(set)
        """The quantities that were answered with Success, by key."""
        self.failures: list[str] = []
        self._address = url.removeprefix("http://")
        self._accounts = accounts
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.first_answer = threading.Event()
        self._threads = [
            threading.Thread(target=self._post, args=(random.Random(seed * 1000 + number),), daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)

    def _post(self, chance: random.Random) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=20)
        try:
            while not self._stopped.is_set():
                body = json.dumps({"UsageRecords": self._records(chance)}).encode()
                for _ in range(chance.choice((1, 1, 2))):  # some are sent again, as after a lost answer
                    connection.request("POST", "/", body, HEADERS)
                    answer = connection.getresponse()
                    self._remember(answer.status, json.loads(answer.read()))
        except (OSError, http.client.HTTPException):
            return  # killed
        finally:
            connection.close()

    def _records(self, chance: random.Random) -> list[dict[str, Any]]:
        keys = {
            (chance.choice(list(self._accounts)), chance.randrange(HOURS))
            for _ in range(chance.randint(1, 12))
        }
        return [
            {
                "LicenseArn": arn,
                "CustomerAWSAccountId": self._accounts[arn],
                "Dimension": "pages",
                "Timestamp": (NOON - timedelta(hours=hour)).timestamp() - chance.choice((0, 0, 60)),
                "Quantity": chance.randint(1, 3),
            }
            for arn, hour in sorted(keys)
        ]

    def _remember(self, status: int, answer: dict[str, Any]) -> None:
        with self._lock:
            if status != 200:
                self.failures.append(f"{status} {answer}")
            for result in answer.get("Results", ()):
                if result["Status"] == "Success":
                    record = result["UsageRecord"]
                    hour = datetime.fromtimestamp(record["Timestamp"], UTC).replace(minute=0, second=0)
                    self.promised[record["LicenseArn"], hour].add(record["Quantity"])
        self.first_answer.set()


def billed(state: State) -> dict[Key, int]:
    return {(key[1], key[4]): int(record.quantity) for key, record in state.billed.items()}


@contextmanager
def kept(path: Path, *, compact_from: int = journal.COMPACT_FROM) -> Iterator[State]:
    """A seller whose state is that of the file."""
    state = seller()
    with journal.keep(state, path, compact_from=compact_from):
        yield state


def main(path: str, compact_from: str) -> None:
    with kept(Path(path), compact_from=int(compact_from)) as state, SimulatorServer(state) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Sixteen at once, clocks moved and shops emptied under them, and the process killed in the middle."""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from billing.simulator.client import SimulatorControl
from billing.simulator.server import SimulatorServer
from tests.simulator import load

ROOT = Path(__file__).parents[2]
THREADS = 16


def assert_promises_are_kept(posters, billed):
    assert posters.promised
    for key, quantities in posters.promised.items():
        assert quantities == {billed[key]}


@pytest.mark.parametrize("journaled", [False, True])
def test_sixteen_posters_end_with_one_quantity_per_key(tmp_path, journaled, caplog):
    with load.kept(tmp_path / "state", compact_from=20_000) as kept:
        state = kept if journaled else load.seller()
        with SimulatorServer(state) as server:
            accounts = load.licenses(SimulatorControl(server.url), 3)
            posters = load.Posters(server.url, accounts, threads=THREADS, seed=1)
            posters.start()
            time.sleep(1.5)
            posters.stop()
            lines = SimulatorControl(server.url).invoice()["lines"]
    assert posters.failures == []
    assert_promises_are_kept(posters, load.billed(state))
    assert len(lines) == len(state.billed)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    if journaled:
        with load.kept(tmp_path / "state") as again:
            assert load.billed(again) == load.billed(state)


def test_an_identical_batch_posted_by_all_at_once_is_billed_once():
    state = load.seller()
    with SimulatorServer(state) as server:
        ((arn, account),) = load.licenses(SimulatorControl(server.url), 1).items()
        records = [
            {
                "LicenseArn": arn,
                "CustomerAWSAccountId": account,
                "Dimension": "pages",
                "Timestamp": load.NOON.timestamp() - 3600 * hour,
                "Quantity": hour,
            }
            for hour in range(load.HOURS)
        ]
        body = json.dumps({"UsageRecords": records}).encode()
        ids, together = [], threading.Barrier(THREADS)

        def post():
            connection = load.http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
            together.wait(20)
            connection.request("POST", "/", body, load.HEADERS)
            results = json.loads(connection.getresponse().read())["Results"]
            ids.append(tuple((result["MeteringRecordId"], result["Status"]) for result in results))
            connection.close()

        threads = [threading.Thread(target=post) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(ids) == THREADS
    assert len(set(ids)) == 1  # all were told the same record ids
    assert {status for _, status in ids[0]} == {"Success"}
    assert len(state.billed) == load.HOURS


def test_clock_and_shop_may_change_under_load(tmp_path, caplog):
    path = tmp_path / "state"
    with load.kept(path, compact_from=5_000) as state, SimulatorServer(state) as server:
        control = SimulatorControl(server.url)
        for seed in range(4):
            accounts = load.licenses(control, 2)
            posters = load.Posters(server.url, accounts, threads=8, seed=seed)
            posters.start()
            assert posters.first_answer.wait(20)
            for _ in range(10):
                control.advance(-7200)
                control.advance(3 * 86400)
                control.set_now(load.NOON)
            control.reset()
            posters.stop()
            # Refused, as AWS would: out of the window, or a license that the reset took away.
            assert {failure.partition(" ")[0] for failure in posters.failures} <= {"400"}
        before = {name: list(table.items()) for name, table in state.tables.items()}
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    with load.kept(path) as again:
        assert {name: list(table.items()) for name, table in again.tables.items()} == before


def start(path, *, compact_from):
    """The simulator in a process of its own, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.simulator.load", str(path), str(compact_from)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


def kill_under_load(path, *, seed, compact_from, after):
    """One life: posters, SIGKILL in the middle, and the file read as a restart reads it."""
    process, url = start(path, compact_from=compact_from)
    with process:
        try:
            accounts = load.licenses(SimulatorControl(url), 3)
            posters = load.Posters(url, accounts, threads=THREADS, seed=seed)
            posters.start()
            assert posters.first_answer.wait(30)
            time.sleep(after)
        finally:
            process.kill()
        posters.stop()
    with load.kept(path) as state:
        assert_promises_are_kept(posters, load.billed(state))
        assert set(accounts) <= {agreement.license_arn for agreement in state.agreements.values()}
    assert posters.failures == []


def test_kill_9_under_load_forgets_nothing_that_was_answered(tmp_path):
    # So short a file is compacted all the time: the kill strikes that too.
    for seed, after in enumerate((0.05, 0.2, 0.4)):
        kill_under_load(tmp_path / "state", seed=seed, compact_from=10_000, after=after)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_kills_at_random_moments(tmp_path):
    chance = random.Random(7)
    for seed in range(60):
        kill_under_load(
            tmp_path / "state",
            seed=seed,
            compact_from=chance.choice((1, 10_000, 200_000, 4_000_000)),
            after=chance.uniform(0, 0.8),
        )

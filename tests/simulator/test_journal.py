"""The state file: what it brings back, what it refuses, and that no accident of writing damages it."""

from __future__ import annotations

import json
import os
import resource
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import boto3
import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from billing.simulator import entries, journal, queues
from billing.simulator.catalog import read_product
from billing.simulator.client import SimulatorControl
from billing.simulator.entries import HEADER, KEYS, Entry
from billing.simulator.errors import Refused
from billing.simulator.lifecycle import purchases
from billing.simulator.records import BilledRecord, Suspension
from billing.simulator.server import SimulatorServer
from billing.simulator.state import State
from billing.simulator.switches import Switches
from tests.simulator.conftest import FLEX, LEGACY, NOON, PAYG
from tests.simulator.load import kept


def contents(state):
    return {name: list(table.items()) for name, table in state.tables.items()}


def bill(state, number, quantity="1"):
    key = ("us-east-1", "arn", "123456789012", "pages", NOON - timedelta(hours=number))
    state.billed[key] = BilledRecord(key, f"id-{number}", "agmt", Decimal(quantity), (), key[4])


def eventful(state):
    """Something in every table, and something deleted from most."""
    for product in (FLEX, PAYG, LEGACY):
        state.products[product["code"]] = read_product(product)
    state.move_clock(now=NOON, freeze=True)
    for code in ("reports-flex", "reports-legacy", "reports-payg"):
        purchases.subscribe(state, product_code=code, aws_account_id="123456789012")
    state.save()
    bill(state, 1, "17.00")
    state.lint("double billing: somewhere")
    for _ in range(3):
        state.faults.add({"operation": "*", "fault": "latency", "seconds": 0, "count": 2})
    state.faults.take("BatchMeterUsage")
    first, second = (
        queues.send(state.messages, "marketplace-events", f"body {n}", sent_at=NOON) for n in "12"
    )
    queues.hide(state.messages, first, seconds=30)
    state.save()
    del state.messages[first.message_id]
    state.messages[first.message_id] = first  # dead-lettered messages go to the end like this
    del state.fault_table[2]
    state.save()


def test_every_table_is_kept_and_every_value_carries_its_key():
    state = State()
    members = {field.name for field in msgspec.structs.fields(Entry)} - {"reset", "gone"}
    assert members == set(state.tables) == set(KEYS)
    eventful(state)
    state.suspensions["1"] = Suspension("1", NOON)
    for name, table in state.tables.items():
        assert [KEYS[name](value) for value in table.values()] == list(table)


@pytest.mark.parametrize("compact_from", [1, journal.COMPACT_FROM])
def test_a_restart_brings_back_all_of_it_in_order(tmp_path, compact_from):
    path = tmp_path / "state"
    with kept(path, compact_from=compact_from) as state:
        eventful(state)
        before = contents(state)
    for _ in range(2):
        with kept(path) as again:
            assert contents(again) == before
            assert again.clock.now() == NOON
            assert again.agreement_of_license(next(iter(again.agreements.values())).license_arn)
    # What was derived is derived again: numbers go on, and nothing is told twice.
    with kept(path) as again:
        assert [event.number for event in again.upcoming.in_order] == [
            number for number, _ in sorted(before["scheduled"], key=lambda pair: (pair[1].due, pair[0]))
        ]
        highest = max(again.scheduled)
        with again.lock:
            again.schedule("agmt", "kind", "body", due=NOON)
        assert max(again.scheduled) == highest + 1


def test_the_clock_goes_on(tmp_path):
    path = tmp_path / "state"
    with kept(path) as state:
        state.move_clock(advance=timedelta(days=3), speed=100)
        state.save()
        stood = state.clock.now()
    time.sleep(0.05)
    with kept(path) as again:
        assert again.clock.speed == 100
        assert timedelta(seconds=5) <= again.clock.now() - stood < timedelta(hours=1)


def test_the_catalog_it_is_started_with_is_the_newer_one(tmp_path):
    path = tmp_path / "state"
    changed = read_product({**PAYG, "title": "New title"})
    with journal.keep(State([read_product(PAYG), read_product(FLEX)]), path):
        pass
    state = State([changed])
    with journal.keep(state, path):
        assert state.products["reports-payg"] == changed
        assert "reports-flex" in state.products
    with kept(path) as again:
        assert again.products["reports-payg"] == changed


def test_a_reset_forgets_what_was_before_and_is_kept_itself(tmp_path):
    path = tmp_path / "state"
    with kept(path) as state:
        eventful(state)
        state.reset()
        state.save()
        bill(state, 5)
        state.save()
        before = contents(state)
    with kept(path) as again:
        assert contents(again) == before
        assert len(again.billed) == 1


def test_what_json_cannot_say_comes_back_too(tmp_path):
    """None of it damages the file, should a check elsewhere let it through."""
    path = tmp_path / "state"
    odd = replace(read_product(PAYG), title="half a character \ud800", summary="\u2028\x00")
    with kept(path) as state:
        state.products["reports-payg"] = odd
        state.change_conditions(switches=Switches(future_tolerance_seconds=float("inf")))
        state.save()
    with kept(path) as again:
        assert again.products["reports-payg"] == odd
        assert again.switches.future_tolerance_seconds == float("inf")


def test_a_value_that_could_not_be_read_back_never_reaches_the_file(tmp_path):
    path = tmp_path / "state"
    with kept(path) as state:
        size = path.stat().st_size
        state.change_conditions(fulfillment_url=7)
        with pytest.raises(entries.Unreadable):
            state.save()
        assert path.stat().st_size == size
        state.change_conditions(fulfillment_url=None)
        state.save()


class TestDamage:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "state"
        with kept(path) as state:
            for number in range(5):
                bill(state, number)
                state.save()
        return path

    def test_a_last_line_cut_short_anywhere_is_cut_off(self, path):
        whole = path.read_bytes()
        last = whole.rstrip(b"\n").rindex(b"\n") + 1
        for end in (last + 1, (last + len(whole)) // 2, len(whole) - 1):
            path.write_bytes(whole[:end])
            with kept(path) as state:
                assert len(state.billed) == 4
                bill(state, 9)
                state.save()
            with kept(path) as again:
                assert len(again.billed) == 5

    @pytest.mark.parametrize("end", [0, 1, len(HEADER) - 1, len(HEADER)])
    def test_a_file_that_never_got_its_first_entry_is_new(self, path, end):
        path.write_bytes(HEADER[:end])
        with kept(path) as state:
            assert list(state.products) == ["load"]
        with kept(path) as again:
            assert list(again.products) == ["load"]

    @pytest.mark.parametrize(
        "damage",
        [b"x", b'{"billed": [{}]}', b'{"a table of tomorrow": []}', b"[]", b"\x00\xff", b"[" * 100_000],
    )
    def test_damage_in_the_middle_is_named_and_nothing_is_changed(self, path, damage):
        lines = path.read_bytes().splitlines(keepends=True)
        lines[3] = damage + b"\n"
        path.write_bytes(b"".join(lines))
        with (
            pytest.raises(Refused, match=rf"{path}, line 4, cannot be read: .*head -n 3.*--state"),
            kept(path),
        ):
            pass
        assert path.read_bytes() == b"".join(lines)
        # What the message advises helps.
        path.write_bytes(b"".join(lines[:3]))
        with kept(path) as state:
            assert len(state.billed) == 1

    @pytest.mark.parametrize("foreign", [b"a photo", b"{}\n", b"[1]\n", b"\n", b'{"products": []}'])
    def test_a_file_of_somebody_else_is_left_alone(self, path, foreign):
        path.write_bytes(foreign)
        with pytest.raises(Refused, match=r"line 1, cannot be read: it is no state file"), kept(path):
            pass
        assert path.read_bytes() == foreign

    def test_a_newer_format_is_refused(self, path):
        lines = path.read_bytes().splitlines(keepends=True)
        lines[0] = json.dumps({**json.loads(HEADER), "version": 2}).encode() + b"\n"
        path.write_bytes(b"".join(lines))
        message = "its format is version 2, and this simulator knows version 1"
        with pytest.raises(Refused, match=message), kept(path):
            pass


class TestFile:
    def test_two_simulators_on_one_file_are_refused(self, tmp_path):
        path = tmp_path / "state"
        with kept(path):
            link = tmp_path / "link"
            link.symlink_to(path)
            for name in (path, link):
                with pytest.raises(Refused, match="Another simulator keeps its state"), kept(name):
                    pass
        with kept(path):
            pass

    def test_what_cannot_be_a_state_file_is_refused(self, tmp_path):
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        for path in (tmp_path, fifo, tmp_path / "missing" / "state", tmp_path / ("x" * 300)):
            with pytest.raises(Refused, match=r"Choose another with --state"), kept(path):
                pass

    def test_others_on_the_machine_cannot_read_its_tokens(self, tmp_path):
        with kept(tmp_path / "state"):
            assert (tmp_path / "state").stat().st_mode & 0o077 == 0

    def test_a_snapshot_left_by_a_kill_is_removed(self, tmp_path):
        left = tmp_path / "state.compact"
        left.write_text("half of one")
        with kept(tmp_path / "state"):
            assert not left.exists()


def test_a_file_that_grew_is_compacted_and_loses_nothing(tmp_path):
    path = tmp_path / "state"
    with kept(path, compact_from=50_000) as state:
        deadline = time.monotonic() + 60
        number = 0
        # Each write may start the next compaction; the last to end leaves a short file.
        while number < 2_000 or (path.stat().st_size > 50_000 and time.monotonic() < deadline):
            with state.lock:
                bill(state, number % 50, str(number))
                state.save()
            number += 1
        before = contents(state)
    assert path.stat().st_size < 100_000
    assert not (tmp_path / "state.compact").exists()
    with kept(path) as again:
        assert contents(again) == before


def test_a_compaction_that_fails_leaves_the_file_as_it_was(tmp_path, caplog):
    path = tmp_path / "state"
    with kept(path, compact_from=10_000) as state:
        (tmp_path / "state.compact").mkdir()
        for number in range(200):
            bill(state, number)
            state.save()
    assert "could not be compacted" in caplog.text
    (tmp_path / "state.compact").rmdir()
    with kept(path) as again:
        assert len(again.billed) == 200


@contextmanager
def full_disk(*, beyond):
    """A file that grows beyond so many bytes gets an error of the kernel's, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (beyond, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_answers_500_and_claims_nothing_until_there_is_room(tmp_path, metering_at):
    path = tmp_path / "state"
    with kept(path) as state:
        eventful(state)
        # Longer than whatever else this process writes.
        queues.send(state.messages, "marketplace-events", "x" * 2_000_000, sent_at=NOON)
        state.save()
        with SimulatorServer(state) as server:
            control = SimulatorControl(server.url)
            sold = control.subscribe("reports-payg")
            control.advance(600)
            with full_disk(beyond=path.stat().st_size + 50):
                whole = path.read_bytes()
                for _ in range(2):
                    assert metering_at(server.url, sold) == "500 InternalFailure"
                assert path.read_bytes() == whole
            assert metering_at(server.url, sold) == "Success"
        before = contents(state)
    with kept(path) as again:
        assert contents(again) == before


@pytest.fixture
def metering_at():
    """Posts one record, and tells its status or the error's code."""

    def post(url, sold):
        client = boto3.client(
            "meteringmarketplace",
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id="k",
            aws_secret_access_key="s",
            config=Config(retries={"total_max_attempts": 1}),
        )
        record = {
            "Timestamp": NOON,
            "Dimension": "pages",
            "LicenseArn": sold.license_arn,
            "CustomerAWSAccountId": sold.aws_account_id,
            "Quantity": 1,
        }
        try:
            return client.batch_meter_usage(UsageRecords=[record])["Results"][0]["Status"]
        except ClientError as error:
            return f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error']['Code']}"

    return post


@pytest.mark.parametrize("room", [10, 200])
def test_a_disk_full_from_the_start_is_refused(tmp_path, room):
    """Full in the middle of the header, or of the first entry."""
    path = tmp_path / "state"
    with full_disk(beyond=room), pytest.raises(Refused, match=r"The state (in|cannot)"), kept(path):
        pass
    with kept(path) as state:  # what was left is no damage
        assert list(state.products) == ["load"]


def test_half_a_line_that_cannot_be_taken_back_ends_all_answers_until_a_restart(tmp_path):
    path = tmp_path / "state"
    with kept(path) as state:
        bill(state, 1)
        state.save()
        (fd,) = (int(name) for name in os.listdir("/proc/self/fd") if same(f"/proc/self/fd/{name}", path))
        good = os.dup(fd)
        read_only = os.open(path, os.O_RDONLY)
        os.dup2(read_only, fd)
        bill(state, 2)
        with pytest.raises(OSError, match="Bad file descriptor"):
            state.save()
        os.dup2(good, fd)
        with pytest.raises(OSError, match="damaged at its end"):
            state.save()
        os.close(good)
        os.close(read_only)
    with kept(path) as again:
        assert len(again.billed) == 1


def same(name, path):
    return os.path.exists(name) and os.path.samefile(name, path)


def test_nothing_is_written_once_it_is_closed(tmp_path):
    with kept(tmp_path / "state") as state:
        pass
    bill(state, 1)
    with pytest.raises(OSError, match="has stopped"):
        state.save()

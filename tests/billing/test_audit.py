"""The audit trail: chains that cannot be edited without it showing."""

from __future__ import annotations

import threading
from datetime import timedelta, timezone

import pytest
from django.db import connection, transaction

from billing import audit, customers, triggers
from billing.models import AuditEvent
from tests.billing.ledger import NOON, make_agreement


@pytest.fixture
def agreement(catalog, acme):
    return make_agreement(catalog, acme)


def write(stream, action="changed", *, by="aws", at=NOON, **data):
    with transaction.atomic():
        return audit.record(stream, action, by=by, at=at, **data)


def test_links_follow_one_another_in_each_stream(agreement, acme_admin):
    first = write(agreement, record=7)
    second = write(agreement, by=acme_admin)
    staff = write(audit.STAFF)
    assert (first.stream, first.sequence, first.previous_mac) == (f"agreement:{agreement.pk}", 1, "0" * 64)
    assert (second.sequence, second.previous_mac, second.actor) == (2, first.mac, f"user:{acme_admin.pk}")
    assert (staff.stream, staff.sequence) == ("staff", 1)
    assert len({first.mac, second.mac, staff.mac}) == 3
    assert list(audit.verify()) == []


def test_a_link_holds_ids_and_no_address(acme_admin):
    link = write(audit.STAFF, by=acme_admin)
    assert acme_admin.email not in f"{link.actor} {link.action} {link.data}"


def test_what_was_written_verifies_after_a_trip_to_the_database(agreement):
    there = timezone(timedelta(hours=5, minutes=45))
    at = (NOON + timedelta(microseconds=123456)).astimezone(there)
    data = {"names": ["ü", "\u2603"], "nested": {"b": 1, "a": None}, "true": True, "number": 1.5}
    write(agreement, at=at, **data)
    link = AuditEvent.objects.get()
    assert link.occurred_at == at
    assert link.data == data
    assert list(audit.verify()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("action", "other"),
        ("actor", "user:999"),
        ("data", {"quantity": 9}),
        ("occurred_at", NOON - timedelta(days=1)),
        ("mac", "f" * 64),
    ],
)
def test_a_changed_link_is_found(agreement, field, value):
    for number in range(3):
        write(agreement, quantity=number)
    write(audit.SYSTEM)
    triggers.drop_all(connection)
    AuditEvent.objects.filter(sequence=2).update(**{field: value})
    (broken,) = audit.verify()
    assert (broken.stream, broken.sequence, broken.reason) == (agreement.audit_stream, 2, "was changed")


def test_a_missing_link_is_found(agreement):
    for _ in range(3):
        write(agreement)
    triggers.drop_all(connection)
    AuditEvent.objects.filter(sequence=2).delete()
    (broken,) = audit.verify()
    assert (broken.sequence, broken.reason) == (3, "link 2 is missing")


def test_a_missing_first_link_is_found(agreement):
    for _ in range(2):
        write(agreement)
    triggers.drop_all(connection)
    AuditEvent.objects.filter(sequence=1).delete()
    (broken,) = audit.verify()
    assert broken.reason == "link 1 is missing"


def test_a_link_moved_from_another_stream_is_found(agreement):
    write(agreement)
    write(agreement)
    write(audit.STAFF)
    moved = write(audit.STAFF)
    triggers.drop_all(connection)
    AuditEvent.objects.filter(stream=agreement.audit_stream, sequence=2).delete()
    AuditEvent.objects.filter(pk=moved.pk).update(stream=agreement.audit_stream)
    (broken,) = audit.verify()
    assert (broken.stream, broken.reason) == (
        agreement.audit_stream,
        "does not follow from the link before it",
    )


def test_each_broken_stream_is_named_once_and_one_can_be_asked_for(agreement):
    for _ in range(3):
        write(audit.STAFF)
        write(agreement)
    triggers.drop_all(connection)
    AuditEvent.objects.update(action="other")
    assert {broken.stream for broken in audit.verify()} == {"staff", agreement.audit_stream}
    assert [broken.sequence for broken in audit.verify("staff")] == [1]
    assert list(audit.verify("system")) == []


def test_without_the_key_no_link_can_be_made(agreement, settings):
    write(agreement)
    settings.AUDIT_KEY = "another key"
    (broken,) = audit.verify()
    assert broken.reason == "was changed"


@pytest.mark.django_db(transaction=True)
def test_a_link_needs_the_transaction_of_its_change():
    with pytest.raises(transaction.TransactionManagementError):
        audit.record(audit.SYSTEM, "changed", by="aws", at=NOON)
    assert not AuditEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_change_that_is_rolled_back_leaves_no_link():
    with transaction.atomic():
        audit.record(audit.SYSTEM, "changed", by="aws", at=NOON)
        transaction.set_rollback(True)
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize("kind", ["system", "agreement"])
@pytest.mark.django_db(transaction=True)
def test_writers_of_one_stream_take_turns(catalog, acme, kind):
    agreement = make_agreement(catalog, acme)
    start, failures = threading.Barrier(4), []

    def writes():
        try:
            start.wait()
            for _ in range(10):
                with transaction.atomic():
                    stream = customers.lock(agreement.pk) if kind == "agreement" else audit.SYSTEM
                    audit.record(stream, "changed", by="aws", at=NOON)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=writes) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    assert AuditEvent.objects.count() == 40
    assert list(audit.verify()) == []

"""The audit trail: chains that cannot be edited or cut short without it showing."""

from __future__ import annotations

import threading
from datetime import timedelta, timezone

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone as djangos_timezone

from billing import audit, customers, submission
from billing.models import AuditEvent, AuditHead, Dimension, Submission
from billing.trail import heads
from tests.billing.ledger import NOON, make_agreement, make_record
from tests.billing.trails import found, tamper, write

MISSING = "is missing"
CHANGED = "was changed"
NO_HEAD = "is the last that is there, and the stream's head is missing"
HEAD_CHANGED = "is the last that is there, and the stream's head was changed"
FORGERY = (
    "INSERT INTO {link} (stream, sequence, occurred_at, actor, action, data, previous_mac, mac) "
    "SELECT stream, 4, occurred_at, actor, action, data, mac, mac FROM {link} "
    "WHERE stream = %s AND sequence = 3"
)


@pytest.fixture
def agreement(catalog, acme):
    return make_agreement(catalog, acme)


@pytest.fixture
def chain(agreement):
    """Three links of an agreement's stream, beside others that are whole."""
    for number in range(3):
        write(agreement, quantity=number)
    write(audit.SYSTEM)
    return agreement.audit_stream


def test_links_follow_one_another_in_each_stream(agreement, acme_admin):
    first = write(agreement, record=7)
    second = write(agreement, by=acme_admin)
    staff = write(audit.STAFF)
    assert (first.stream, first.sequence, first.previous_mac) == (f"agreement:{agreement.pk}", 1, "0" * 64)
    assert (second.sequence, second.previous_mac, second.actor) == (2, first.mac, f"user:{acme_admin.pk}")
    assert (staff.stream, staff.sequence) == ("staff", 1)
    assert len({first.mac, second.mac, staff.mac}) == 3
    assert {link.pk for link in (first, second, staff)} <= set(
        AuditEvent.objects.values_list("pk", flat=True)
    )
    assert list(audit.verify()) == []


def test_a_head_tells_of_the_newest_link(agreement):
    write(agreement)
    last = write(agreement)
    head = AuditHead.objects.get(stream=agreement.audit_stream)
    assert (head.sequence, head.mac) == (2, last.mac)


@pytest.mark.parametrize("many", [1, 40])
def test_a_link_takes_no_more_queries_for_many_agreements(catalog, acme, django_assert_max_num_queries, many):
    agreements = [make_agreement(catalog, acme) for _ in range(many)]
    at_once = 2 if connection.vendor == "postgresql" else 3
    for _ in range(2):
        with django_assert_max_num_queries(at_once):
            audit.record_each({each: {"n": 1} for each in agreements}, "changed", by="aws", at=NOON)
    audit.record_each({}, "changed", by="aws", at=NOON)
    assert AuditEvent.objects.filter(action="changed").count() == 2 * many
    assert found() == []


def test_a_link_holds_ids_and_no_address(acme_admin):
    link = write(audit.STAFF, by=acme_admin)
    assert acme_admin.email not in f"{link.actor} {link.action} {link.data}"


def test_what_was_written_verifies_after_a_trip_to_the_database(agreement):
    there = timezone(timedelta(hours=5, minutes=45))
    at = (NOON + timedelta(microseconds=123456)).astimezone(there)
    data = {"names": ["ü", "\u2603"], "nested": {"b": 1, "a": None}, "true": True, "number": 1.5}
    write(agreement, at=at, **data)
    link = AuditEvent.objects.get(stream=agreement.audit_stream)
    assert link.occurred_at == at
    assert link.data == data
    assert list(audit.verify()) == []


def test_raw_sql_changes_no_link_and_lowers_no_head(chain):
    """What is refused one by one stands in test_triggers."""
    for sql in (
        "UPDATE billing_auditevent SET action = 'other' WHERE stream = %s",
        "DELETE FROM billing_auditevent WHERE stream = %s",
        "DELETE FROM billing_auditevent WHERE sequence = 3 AND stream = %s",
        "UPDATE billing_audithead SET sequence = 2 WHERE stream = %s",
        "UPDATE billing_audithead SET mac = 'x' WHERE stream = %s",
        "DELETE FROM billing_audithead WHERE stream = %s",
    ):
        with pytest.raises(IntegrityError, match="audit_"), transaction.atomic():
            connection.cursor().execute(sql, [chain])
    assert found() == []


TAMPERINGS = [
    ("UPDATE {link} SET action = 'other' WHERE stream = %s AND sequence = 2", 2, CHANGED),
    ("UPDATE {link} SET actor = 'user:999' WHERE stream = %s AND sequence = 2", 2, CHANGED),
    ("UPDATE {link} SET data = '{{\"quantity\": 9}}' WHERE stream = %s AND sequence = 1", 1, CHANGED),
    ("UPDATE {link} SET data = '{{\"quantity\": 9}}' WHERE stream = %s AND sequence = 3", 3, CHANGED),
    ("UPDATE {link} SET occurred_at = '2026-01-01 00:00:00' WHERE stream = %s AND sequence = 2", 2, CHANGED),
    ("UPDATE {link} SET mac = 'f' WHERE stream = %s AND sequence = 2", 2, CHANGED),
    ("UPDATE {link} SET mac = 'f' WHERE stream = %s AND sequence = 3", 3, CHANGED),
    ("DELETE FROM {link} WHERE stream = %s AND sequence = 1", 1, MISSING),
    ("DELETE FROM {link} WHERE stream = %s AND sequence = 2", 2, MISSING),
    ("DELETE FROM {link} WHERE stream = %s AND sequence = 3", 3, MISSING),
    ("DELETE FROM {link} WHERE stream = %s AND sequence > 1", 2, MISSING),
    ("DELETE FROM {link} WHERE stream = %s", 1, MISSING),
    ("UPDATE {link} SET sequence = 30 WHERE stream = %s AND sequence = 3", 3, MISSING),
    ("DELETE FROM {head} WHERE stream = %s", 3, NO_HEAD),
    ("UPDATE {head} SET sequence = 2 WHERE stream = %s", 3, HEAD_CHANGED),
    ("UPDATE {head} SET seal = 'f' WHERE stream = %s", 3, HEAD_CHANGED),
    ("UPDATE {head} SET sequence = 2, mac = (SELECT mac FROM {link} link WHERE link.stream = {head}.stream "
     "AND sequence = 2) WHERE stream = %s", 3, HEAD_CHANGED),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "sequence", "reason"), TAMPERINGS, ids=[each[0][:90] for each in TAMPERINGS])
def test_with_the_triggers_dropped_what_was_done_is_found(chain, sql, sequence, reason):
    tamper(sql, chain)
    assert found() == [(chain, sequence, reason)]
    assert found(chain) == [(chain, sequence, reason)]
    assert found(audit.SYSTEM) == []


def test_what_was_cut_off_is_found_also_when_the_head_was_cut_down_to_it(chain):
    """The head can be set to an older link, and cannot be sealed."""
    tamper("DELETE FROM {link} WHERE stream = %s AND sequence = 3", chain)
    tamper(
        "UPDATE {head} SET sequence = 2, mac = (SELECT mac FROM {link} link "
        "WHERE link.stream = {head}.stream AND sequence = 2) WHERE stream = %s",
        chain,
    )
    assert found() == [(chain, 2, HEAD_CHANGED)]


def test_two_links_that_changed_places_are_found(chain):
    for before, after in ((1, 100), (2, 1), (100, 2)):
        tamper("UPDATE {link} SET sequence = %s WHERE sequence = %s AND stream = %s", after, before, chain)
    assert found() == [(chain, 1, "does not follow from the link before it")]


def test_a_link_moved_from_another_stream_is_found(agreement):
    for _ in range(2):
        write(agreement)
        write(audit.STAFF)
    stream = agreement.audit_stream
    tamper("DELETE FROM {link} WHERE sequence = 2 AND stream = %s", stream)
    tamper("UPDATE {link} SET stream = %s WHERE sequence = 2 AND stream = 'staff'", stream)
    assert found() == [
        (stream, 2, "does not follow from the link before it"),
        ("staff", 2, MISSING),
    ]


def test_a_forged_link_at_the_end_is_found(chain):
    tamper(FORGERY, chain)
    assert found() == [(chain, 4, CHANGED)]


def test_each_broken_stream_is_named_once_and_one_can_be_asked_for(agreement):
    for _ in range(3):
        write(audit.STAFF)
        write(agreement)
    tamper("UPDATE {link} SET action = 'other'")
    assert {stream for stream, _, _ in found()} >= {"staff", agreement.audit_stream}
    assert len(found()) == len({stream for stream, _, _ in found()})
    assert [sequence for _, sequence, _ in found("staff")] == [1]
    assert found("system") == []


def test_without_the_key_no_link_can_be_made(agreement, settings):
    write(agreement)
    settings.AUDIT_KEY = "another key"
    assert found(agreement.audit_stream) == [(agreement.audit_stream, 1, CHANGED)]


# --- Going on after somebody tampered


def test_writing_on_does_not_cover_up_what_was_cut_off(chain, agreement):
    tamper("DELETE FROM {link} WHERE stream = %s AND sequence = 3", chain)
    write(agreement)
    assert found() == [(chain, 3, MISSING)]


@pytest.mark.parametrize(
    "sql", ["DELETE FROM {head} WHERE stream = %s", "UPDATE {head} SET seal = 'f' WHERE stream = %s"]
)
def test_writing_on_makes_no_head_anew(chain, agreement, caplog, sql):
    tamper("DELETE FROM {link} WHERE stream = %s AND sequence = 3", chain)
    tamper(sql, chain)
    link = write(agreement)
    assert link.sequence == 3, "The business goes on."
    assert found() == [(chain, 3, NO_HEAD if "DELETE" in sql else HEAD_CHANGED)]
    assert f"The head of audit stream {chain} is missing or was changed" in caplog.text


def test_writing_on_after_a_forged_link_does_not_stop_the_business(chain, agreement):
    tamper(FORGERY, chain)
    assert write(agreement).sequence == 5
    assert found() == [(chain, 4, CHANGED)]


def test_a_stream_that_is_gone_with_its_head_is_missed(chain, agreement):
    heads.note(now=NOON)
    write(agreement)
    assert found() == []
    tamper("DELETE FROM {link} WHERE stream = %s", chain)
    tamper("DELETE FROM {head} WHERE stream = %s", chain)
    noted = AuditEvent.objects.get(action="heads_noted")
    assert found() == [("system", noted.sequence, "tells of 1 more streams than are there")]
    write(agreement)
    assert found() == [("system", noted.sequence, "tells of 1 more streams than are there")], "For good."


# --- Heads: noted daily, adopted after an upgrade


def test_the_ends_of_all_chains_are_logged_and_chained(chain, caplog):
    caplog.set_level("INFO", logger="billing.trail.heads")
    before = heads.standing()
    noted = heads.note(now=NOON)
    link = AuditEvent.objects.get(action="heads_noted")
    assert noted == before
    assert link.data == {"streams": before.streams, "up_to": before.up_to, "digest": before.digest}
    assert (link.stream, link.actor) == ("system", "job:note_audit_heads")
    [line] = [record.message for record in caplog.records]
    assert f"{before.streams} streams, digest {before.digest}, noted as system #{link.sequence}" in line
    assert link.mac in line
    assert heads.standing().digest != before.digest
    assert found() == []


def test_streams_of_an_older_version_are_adopted_once_and_by_a_person(chain, agreement):
    tamper("DELETE FROM {head}")
    write(agreement)
    assert (chain, 4, NO_HEAD) in found()

    adopted, refused = heads.adopt(now=NOON)

    assert chain in adopted
    assert refused == []
    assert found() == []
    assert heads.adopt(now=NOON) == ([], [])
    assert AuditEvent.objects.get(action="heads_adopted").data == {"streams": len(adopted)}
    write(agreement)
    assert AuditHead.objects.get(stream=chain).sequence == 5


def test_a_head_that_an_older_version_left_behind_is_moved(chain, agreement):
    """During an upgrade the old code writes links and knows of no heads."""
    head = AuditHead.objects.get(stream=chain)
    write(agreement)
    tamper("DELETE FROM {head} WHERE stream = %s", chain)
    head.pk = None
    head.save(force_insert=True)
    assert found() == [(chain, 4, "is there, and the stream's head does not tell of it")]
    assert heads.adopt(now=NOON) == ([chain], [])
    assert found() == []


def test_a_chain_that_does_not_hold_is_not_adopted(chain):
    tamper("UPDATE {link} SET action = 'other' WHERE sequence = 2 AND stream = %s", chain)
    tamper("DELETE FROM {head} WHERE stream = %s", chain)
    assert heads.adopt(now=NOON) == ([], [chain])
    assert found() == [(chain, 2, CHANGED)]


# --- Transactions


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
    assert AuditEvent.objects.filter(action="changed").count() == 40
    assert list(audit.verify()) == []


# --- What jobs do


def test_a_run_of_the_submitter_is_one_link_and_what_aws_refuses_is_its_agreements(
    aws, catalog, acme, purchase
):
    """A dimension that AWS does not know is refused, its neighbour in the call is not."""
    bought = purchase("reports-payg")
    now = djangos_timezone.now()
    hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    unknown = Dimension.objects.create(product=bought.product, key="unknown", label="U", kind="metered")
    good = make_record(bought, hour, 1, submit_by=now + timedelta(hours=9))
    bad = make_record(bought, hour, 1, dimension=unknown, submit_by=now + timedelta(hours=9))

    submission.submit_due(aws.marketplace, now=now)
    submission.submit_due(aws.marketplace, now=now)

    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.state, bad.state) == ("accepted", "parked")
    [run] = AuditEvent.objects.filter(action="usage_submitted")
    calls = Submission.objects.filter(token=run.data["token"])
    assert run.data == {"token": calls.get(parent=None).token, "calls": calls.count(), "accepted": 1}
    assert (run.stream, run.actor) == ("system", "job:submit_metering")
    [refused] = AuditEvent.objects.filter(action="records_parked")
    assert (refused.stream, refused.data) == (
        bought.audit_stream,
        {"records": [bad.pk], "code": bad.error_code},
    )
    assert found() == []

"""Records go to AWS in full batches, and only its answers count."""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connections
from django.db.models.functions import Now

from billing import audit, crashpoints, leases, submission
from billing.aws.errors import MarketplaceUnavailable, Scope, error_for
from billing.aws.types import BatchAnswer
from billing.aws.window import HOUR
from billing.models import (
    AuditEvent,
    Dimension,
    Lease,
    MeteringRecord,
    Submission,
    SubmissionLine,
)
from billing.sending import batches
from tests.billing.ledger import NOON, ScriptedAws, bought_agreement, make_agreement, make_record, says

NOW = NOON + timedelta(minutes=5)
LATER = NOW + timedelta(minutes=10)
State = MeteringRecord.State


@pytest.fixture
def frozen(aws):
    aws.control.freeze(NOW)
    return aws


@pytest.fixture
def agreement(frozen, catalog, acme):
    return bought_agreement(frozen, catalog, acme)


@pytest.fixture
def local(catalog, acme):
    """An agreement that only we know: for answers that are scripted."""
    return make_agreement(catalog, acme)


def hours(count, *, before=NOON):
    return [before - number * HOUR for number in range(1, count + 1)]


def states():
    return sorted(MeteringRecord.objects.values_list("state", flat=True))


def sent(aws):
    return [call["request"] for call in aws.control.requests("BatchMeterUsage")]


def sizes(aws):
    return [len(request["UsageRecords"]) for request in sent(aws)]


def lines_of(record):
    return list(record.submission_lines.values_list("status", flat=True))


def line_of(record):
    (batch,) = batches.pick(now=NOW, token=0, but_regions=[], most=lambda region: 1)
    (line,) = batch.lines
    assert line.reference == record.pk
    return line


def waited(record):
    record.refresh_from_db()
    return record.next_attempt_at - NOW


# --- Batches


def test_sixty_records_of_three_customers_are_three_calls(frozen, catalog, acme):
    for _ in range(3):
        agreement = bought_agreement(frozen, catalog, acme)
        for hour in hours(20):
            make_record(agreement, hour, 2)
    assert submission.submit_due(frozen.marketplace, now=NOW) == 60
    assert sorted(sizes(frozen)) == [10, 25, 25]  # in flight together: which arrives first is chance
    assert states() == [State.ACCEPTED] * 60
    assert sum(Decimal(line["quantity"]) for line in frozen.control.invoice()["lines"]) == 120


def test_an_accepted_record_keeps_awss_id_and_is_never_sent_again(frozen, agreement):
    record = make_record(agreement, NOON - HOUR, "17.5")
    assert submission.submit_due(frozen.marketplace, now=NOW) == 1
    record.refresh_from_db()
    (billed,) = frozen.control.invoice()["lines"]
    assert (record.state, record.aws_record_id) == (State.ACCEPTED, billed["metering_record_id"])
    assert (record.attempts, record.error_code) == (1, "")
    assert NOW <= record.settled_at < NOW + timedelta(minutes=1)
    line = record.submission_lines.get()
    assert (line.status, line.aws_record_id) == ("Success", record.aws_record_id)
    call = line.submission
    assert call.outcome == Submission.Outcome.ANSWERED
    assert call.aws_request_id == frozen.control.requests("BatchMeterUsage")[0]["request_id"]
    assert call.finished_at >= call.started_at >= NOW
    assert submission.submit_due(frozen.marketplace, now=LATER) == 0
    assert len(sent(frozen)) == 1


def test_the_nearest_deadline_goes_first(local):
    for hour in hours(23):
        make_record(local, hour)
    for number, dimension in enumerate(("seats", "exports", "calls")):
        urgent = NOW + timedelta(minutes=1 + number)
        make_record(local, NOON - HOUR, dimension=second_dimension(local, dimension), submit_by=urgent)
    aws = ScriptedAws()
    assert submission.submit_due(aws, now=NOW) == 26
    # In flight together: which arrives first is chance. The first to be packed is full.
    first, last = sorted((lines for _, lines in aws.batches), key=len, reverse=True)
    assert [len(first), len(last)] == [25, 1]
    assert [line.dimension for line in first[:4]] == ["seats", "exports", "calls", "pages"]
    rest = [line.timestamp for line in (*first[3:], *last)]
    assert rest == sorted(rest)


def test_products_identities_and_regions_are_never_mixed(frozen, catalog, acme):
    payg, other_payg = bought_agreement(frozen, catalog, acme), bought_agreement(frozen, catalog, acme)
    flex = bought_agreement(frozen, catalog, acme, "reports-flex")
    classic = bought_agreement(frozen, catalog, acme, "reports-classic")
    for agreement in (payg, flex, classic, other_payg):
        for hour in hours(3):
            make_record(agreement, hour)
    make_record(payg, NOON - 4 * HOUR, wire_region="eu-west-1")
    assert submission.submit_due(frozen.marketplace, now=NOW) == 13
    calls = frozen.control.requests("BatchMeterUsage")
    kinds = sorted(
        (call["region"], call["request"].get("ProductCode", ""), len(call["request"]["UsageRecords"]))
        for call in calls
    )
    assert kinds == [
        ("eu-west-1", "", 1), ("us-east-1", "", 3), ("us-east-1", "", 6), ("us-east-1", "reports-classic", 3),
    ]  # fmt: skip
    for call in calls:
        for record in call["request"]["UsageRecords"]:
            assert ("LicenseArn" in record) != ("ProductCode" in call["request"])


def test_a_call_stays_below_one_megabyte(frozen, agreement):
    tags = ",".join(
        f'{{"quantity":"0.01","tags":{{"k{n:04}":"{"v" * 40}"}}}}' for n in range(1900)
    )  # about 240 kB in the request
    for hour in hours(6):
        make_record(agreement, hour, "19", wire_allocations=f"[{tags}]")
    assert submission.submit_due(frozen.marketplace, now=NOW) == 6
    shown = [call["request"] for call in frozen.control.requests("BatchMeterUsage")]
    # The log keeps only the size of large requests.
    sizes = [int(text.removeprefix("(").partition(" ")[0]) for text in shown]
    assert len(sizes) > 1
    assert max(sizes) < 1_000_000
    assert max(sizes) > 500_000


def test_what_is_held_parked_or_settled_is_not_sent(local):
    for state in State:
        if state not in MeteringRecord.SENDABLE:
            make_record(local, NOON - HOUR * (1 + list(State).index(state)), state=state)
    aws = ScriptedAws()
    assert submission.submit_due(aws, now=NOW) == 0
    assert aws.batches == []


def test_nothing_due_makes_no_call(frozen):
    assert submission.submit_due(frozen.marketplace, now=NOW) == 0
    assert sent(frozen) == []


# --- No answer


def test_unprocessed_records_are_sent_again_unchanged_and_the_rest_is_not(frozen, agreement):
    first, second = (make_record(agreement, hour) for hour in hours(2))
    frozen.control.fault("BatchMeterUsage", "unprocessed", share=0.5)
    assert submission.submit_due(frozen.marketplace, now=NOW) == 1
    left = MeteringRecord.objects.exclude(state=State.ACCEPTED).get()
    assert left.state == State.DUE
    assert lines_of(left) == ["Unprocessed"]
    assert timedelta(0) < waited(left) <= timedelta(minutes=5)
    assert submission.submit_due(frozen.marketplace, now=LATER) == 1
    assert states() == [State.ACCEPTED] * 2
    both, again = sent(frozen)
    assert len(both["UsageRecords"]) == 2
    assert again["UsageRecords"] == [r for r in both["UsageRecords"] if r in again["UsageRecords"]]
    assert {first.pk, second.pk} == set(SubmissionLine.objects.values_list("record_id", flat=True))


def test_a_throttled_record_was_never_in_doubt(frozen, agreement):
    record = make_record(agreement, NOON - HOUR)
    frozen.control.fault("BatchMeterUsage", "throttle")
    assert submission.submit_due(frozen.marketplace, now=NOW) == 0
    record.refresh_from_db()
    assert record.state == State.DUE
    assert lines_of(record) == ["ThrottlingException"]
    call = Submission.objects.get()
    assert (call.outcome, call.error_code) == (Submission.Outcome.FAILED, "ThrottlingException")
    assert submission.submit_due(frozen.marketplace, now=LATER) == 1


@pytest.mark.parametrize("fault", ["internal_error", "drop_after_accept"])
def test_after_a_fault_the_identical_record_is_sent_again_and_billed_once(frozen, agreement, fault):
    record = make_record(agreement, NOON - HOUR, "17.25", wire_timestamp=NOON - timedelta(minutes=43))
    frozen.control.fault("BatchMeterUsage", fault)
    assert submission.submit_due(frozen.marketplace, now=NOW) == 0
    record.refresh_from_db()
    assert record.state == State.IN_DOUBT
    assert lines_of(record) == [""]
    assert submission.submit_due(frozen.marketplace, now=LATER) == 1
    record.refresh_from_db()
    assert (record.state, record.attempts) == (State.ACCEPTED, 2)
    assert record.aws_record_id
    first, second = sent(frozen)
    assert first == second
    assert [line["quantity"] for line in frozen.control.invoice()["lines"]] == ["17.25"]


def test_what_was_in_doubt_stays_so_when_a_later_call_is_throttled(frozen, agreement):
    record = make_record(agreement, NOON - HOUR)
    frozen.control.fault("BatchMeterUsage", "drop_after_accept")
    submission.submit_due(frozen.marketplace, now=NOW)
    frozen.control.fault("BatchMeterUsage", "throttle")
    submission.submit_due(frozen.marketplace, now=LATER)
    record.refresh_from_db()
    assert record.state == State.IN_DOUBT
    assert lines_of(record) == ["", "ThrottlingException"]


def test_a_record_that_the_answer_does_not_name_is_in_doubt(local):
    named, unnamed = (make_record(local, hour) for hour in hours(2))
    aws = ScriptedAws(lambda lines: says("Success", [line for line in lines if line.reference == named.pk]))
    assert submission.submit_due(aws, now=NOW) == 1
    unnamed.refresh_from_db()
    assert unnamed.state == State.IN_DOUBT
    assert lines_of(unnamed) == [""]


def test_three_failures_in_a_row_end_the_run(catalog, acme):
    for _ in range(6):
        agreement = make_agreement(catalog, acme)
        for hour in hours(23):
            make_record(agreement, hour)
    down = ScriptedAws(error_for("InternalServiceErrorException", "", status=500))
    assert submission.submit_due(down, now=NOW) == 0
    assert len(down.batches) == 3


DEAD = "eu-central-2"


@pytest.mark.parametrize(
    "error",
    [
        error_for("DisabledApiException", ""),
        error_for("OptInRequired", ""),
        MarketplaceUnavailable("Unreachable"),
        error_for("InternalServiceErrorException", "", status=500),
    ],
    ids=lambda error: error.code,
)
def test_what_is_wrong_in_one_region_keeps_no_other_back(catalog, acme, error, caplog):
    for region, hour in ((DEAD, NOON - 2 * HOUR), ("us-east-1", NOON - HOUR)):
        for _ in range(100):
            make_record(make_agreement(catalog, acme), hour, wire_region=region)
    asked = []

    class HalfDead(ScriptedAws):
        def batch_meter_usage(self, lines, *, region):
            asked.append(region)
            if region == DEAD:
                raise error
            return super().batch_meter_usage(lines, region=region)

    assert submission.submit_due(HalfDead(), now=NOW) == 100
    assert asked.count(DEAD) <= 3, "Those behind the first are as hopeless."
    left = MeteringRecord.objects.exclude(state=State.ACCEPTED)
    assert set(left.values_list("wire_region", flat=True)) == {DEAD}
    assert left.count() == 100
    assert ("Metering stopped: " in caplog.text) == (error.scope is Scope.ACCOUNT)


def test_a_product_code_that_is_not_ours_keeps_no_other_product_back(catalog, acme, caplog):
    for hour in hours(20):
        for _ in range(5):
            make_record(make_agreement(catalog, acme, "reports-classic"), hour - HOUR)
    for _ in range(50):
        make_record(make_agreement(catalog, acme), NOON - HOUR)

    def answer(lines):
        return error_for("InvalidProductCodeException", "") if lines[0].product_code else None

    aws = ScriptedAws(answer)
    assert submission.submit_due(aws, now=NOW) == 50
    assert len([lines for _, lines in aws.batches if lines[0].product_code]) <= 3
    assert caplog.text.count("Metering stopped: InvalidProductCodeException") == 1
    assert set(MeteringRecord.objects.exclude(wire_product_code=None).values_list("state", flat=True)) == {
        State.DUE
    }


def test_a_throttled_call_and_an_answered_one_take_turns(local):
    for number in range(5):
        make_record(local, NOON - (1 + number) * HOUR, wire_region=f"region-{number}")
    flaky = ScriptedAws(*[error_for("ThrottlingException", ""), None] * 3)
    assert submission.submit_due(flaky, now=NOW) == 2
    assert len(flaky.batches) == 5


def second_dimension(agreement, key="seats"):
    found, _ = Dimension.objects.get_or_create(
        product=agreement.product, key=key, defaults={"kind": "metered", "label": key}
    )
    return found


# --- Outcomes


def test_a_duplicate_of_our_own_earlier_send_is_accepted_without_an_id(frozen, agreement):
    record = make_record(agreement, NOON - HOUR, 3)
    frozen.control.switch(identical_repeat="DuplicateRecord")
    frozen.control.fault("BatchMeterUsage", "drop_after_accept")
    submission.submit_due(frozen.marketplace, now=NOW)
    assert submission.submit_due(frozen.marketplace, now=LATER) == 1
    record.refresh_from_db()
    assert (record.state, record.aws_record_id) == (State.ACCEPTED, None)
    assert frozen.billed() == "3"


def test_somebody_elses_quantity_for_the_hour_is_a_conflict_and_an_alarm(frozen, agreement, caplog):
    record = make_record(agreement, NOON - HOUR, 3)
    foreign = replace(line_of(record), quantity="1")
    frozen.marketplace.batch_meter_usage([foreign], region="us-east-1")
    with caplog.at_level(logging.CRITICAL):
        assert submission.submit_due(frozen.marketplace, now=NOW) == 0
    record.refresh_from_db()
    assert record.state == State.CONFLICT
    assert record.settled_at is not None
    assert f"Metering record {record.pk}: AWS already holds another quantity" in caplog.text
    assert submission.submit_due(frozen.marketplace, now=LATER) == 0
    assert len(sent(frozen)) == 2
    assert frozen.billed() == "1"


@pytest.mark.parametrize(
    ("earlier", "state"),
    [
        (error_for("ThrottlingException", ""), State.CONFLICT),
        (error_for("Unreachable", ""), State.CONFLICT),
        (error_for("DisabledApiException", ""), State.CONFLICT),
        (error_for("BrandNewException", ""), State.CONFLICT),
        (lambda lines: BatchAnswer((), tuple(line.reference for line in lines), ""), State.CONFLICT),
        (lambda lines: says("CustomerNotSubscribed", lines), State.CONFLICT),
        (error_for("NoAnswer", ""), State.ACCEPTED),
        (error_for("InternalServiceErrorException", "", status=500), State.ACCEPTED),
        (lambda lines: says("Pending", lines), State.ACCEPTED),
        (BatchAnswer((), (), ""), State.ACCEPTED),
    ],
)
def test_a_duplicate_is_ours_only_if_aws_may_have_taken_an_earlier_send(local, earlier, state):
    record = make_record(local, NOON - HOUR)
    submission.submit_due(ScriptedAws(earlier), now=NOW)
    submission.submit_due(ScriptedAws(lambda lines: says("DuplicateRecord", lines)), now=NOW + 2 * HOUR)
    record.refresh_from_db()
    assert record.state == state


def test_an_unsubscribed_customers_record_waits_and_the_agreement_is_flagged_once(local, caplog):
    record = make_record(local, NOON - HOUR)
    aws = ScriptedAws(lambda lines: says("CustomerNotSubscribed", lines))
    assert submission.submit_due(aws, now=NOW) == 0
    record.refresh_from_db()
    assert record.state == State.WAITING
    assert HOUR - timedelta(minutes=1) < waited(record) <= HOUR + timedelta(minutes=1)
    local.refresh_from_db()
    flagged_at = local.flagged_at
    assert local.flag_reason == "AWS says the customer is not subscribed."
    assert submission.submit_due(aws, now=NOW + timedelta(minutes=59)) == 0
    assert len(aws.batches) == 1
    submission.submit_due(aws, now=NOW + timedelta(minutes=62))
    assert len(aws.batches) == 2
    local.refresh_from_db()
    assert local.flagged_at == flagged_at
    assert AuditEvent.objects.filter(action="flagged").count() == 1
    assert list(audit.verify()) == []


def test_near_its_deadline_a_waiting_record_is_tried_more_often(local):
    record = make_record(local, NOON - HOUR, submit_by=NOW + timedelta(minutes=40))
    submission.submit_due(ScriptedAws(lambda lines: says("CustomerNotSubscribed", lines)), now=NOW)
    assert timedelta(minutes=9) < waited(record) <= timedelta(minutes=10, seconds=5)


def test_a_customer_who_is_subscribed_by_and_by_is_billed(frozen, catalog, acme):
    bought = frozen.buy("reports-payg", started_at=NOON - 2 * HOUR, license_updated_after=3 * 3600)
    agreement = make_agreement(
        catalog, acme, account=bought.aws_account_id, license_arn=bought.license_arn,
        license_id=bought.license_arn.rpartition(":")[2],
    )  # fmt: skip
    record = make_record(agreement, NOON - HOUR, 4)
    assert submission.submit_due(frozen.marketplace, now=NOW) == 0
    record.refresh_from_db()
    assert record.state == State.WAITING
    frozen.control.advance(HOUR)
    assert submission.submit_due(frozen.marketplace, now=NOW + HOUR + timedelta(minutes=5)) == 1
    assert frozen.billed() == "4"


def test_an_unknown_status_is_never_success(local, caplog):
    record = make_record(local, NOON - HOUR)
    aws = ScriptedAws(lambda lines: says("Splendid", lines))
    assert submission.submit_due(aws, now=NOW) == 0
    record.refresh_from_db()
    assert record.state == State.IN_DOUBT
    assert lines_of(record) == ["Splendid"]
    assert "unknown status 'Splendid'" in caplog.text
    submission.submit_due(aws, now=LATER)
    assert aws.batches[0] == aws.batches[1]


# --- Refusals of the whole call


POISONS = {
    "InvalidUsageDimensionException": {"dimension": "unlisted"},
    "TimestampOutOfBoundsException": {"wire_timestamp": NOON - timedelta(days=3)},
    "InvalidLicenseException": {"wire_license_arn": "arn:aws:license-manager::1:license:l-0"},
    "InvalidUsageAllocationsException": {"wire_allocations": '[{"quantity":"5","tags":{"a":"b"}}]'},
    "InvalidTagException": {"wire_allocations": '[{"quantity":"1","tags":{"{":"b"}}]'},
    "ValidationException": {"wire_quantity": "01"},
}


@pytest.mark.parametrize("code", POISONS)
def test_a_poison_record_is_parked_alone_and_its_neighbours_are_billed(frozen, catalog, acme, caplog, code):
    one, another = bought_agreement(frozen, catalog, acme), bought_agreement(frozen, catalog, acme)
    for hour in hours(12):
        make_record(one, hour)
        make_record(another, hour)
    fields = dict(POISONS[code])
    if "dimension" in fields:
        fields["dimension"] = second_dimension(one, fields["dimension"])
    poison = make_record(one, NOON - 13 * HOUR, **fields)
    assert submission.submit_due(frozen.marketplace, now=NOW) == 24
    poison.refresh_from_db()
    assert (poison.state, poison.error_code) == (State.PARKED, code)
    assert poison.error_message
    assert states() == [State.ACCEPTED] * 24 + [State.PARKED]
    assert len(frozen.control.invoice()["lines"]) == 24
    # Halving twenty-five takes at most five levels below the first call, two calls each.
    assert len(sent(frozen)) <= 11
    leaf = poison.submission_lines.order_by("-pk")[0].submission
    depth, node = 0, leaf
    while node.parent is not None:
        depth, node = depth + 1, node.parent
    assert (leaf.record_count, node.record_count) == (1, 25)
    assert depth <= 5
    assert f"Metering record {poison.pk} is parked: {code}" in caplog.text
    assert submission.submit_due(frozen.marketplace, now=LATER) == 0
    assert poison.submission_lines.count() == depth + 1


def test_a_poison_customer_of_a_legacy_product_is_parked_alone(frozen, catalog, acme):
    good = bought_agreement(frozen, catalog, acme, "reports-classic")
    for hour in hours(24):
        make_record(good, hour, submit_by=NOW + HOUR)
    MeteringRecord.objects.filter(hour=NOON - 24 * HOUR).update(state=State.HELD)
    poison = make_record(
        good, NOON, wire_timestamp=NOON - HOUR, wire_account_id=None, wire_customer_identifier="nobody"
    )
    assert submission.submit_due(frozen.marketplace, now=NOW) == 23
    poison.refresh_from_db()
    assert (poison.state, poison.error_code) == (State.PARKED, "InvalidCustomerIdentifierException")


@pytest.mark.parametrize(
    "code",
    [
        "AccessDeniedException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "DisabledApiException",
        "InvalidProductCodeException",
        "NoCredentials",
        "ExpiredCredentials",
    ],
)
def test_an_account_scoped_refusal_stops_the_run_and_parks_nothing(local, caplog, code):
    doubtful = make_record(local, NOON - HOUR, state=State.IN_DOUBT)
    for hour in hours(20, before=NOON - HOUR):
        make_record(local, hour)
    aws = ScriptedAws(error_for(code, ""))
    for minutes in (0, 5, 10):
        assert submission.submit_due(aws, now=NOW + timedelta(minutes=minutes)) == 0
    assert len(aws.batches) == 3
    assert states() == [State.DUE] * 20 + [State.IN_DOUBT]
    doubtful.refresh_from_db()
    assert doubtful.state == State.IN_DOUBT
    (criticals,) = {record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL}
    assert criticals.startswith(f"Metering stopped: {code}. ")
    assert submission.submit_due(ScriptedAws(), now=NOW + timedelta(minutes=15)) == 21


def test_an_unknown_code_is_isolated_and_stays_due(local, caplog):
    records = [make_record(local, hour) for hour in hours(20)]
    odd = records[7]

    def refuse(lines):
        return error_for("BrandNewException", "?") if odd.pk in {line.reference for line in lines} else None

    assert submission.submit_due(ScriptedAws(refuse), now=NOW) == 19
    odd.refresh_from_db()
    assert (odd.state, odd.error_code) == (State.DUE, "BrandNewException")
    assert odd.next_attempt_at is not None
    assert "unknown error 'BrandNewException'" in caplog.text
    assert submission.submit_due(ScriptedAws(), now=LATER) == 1
    odd.refresh_from_db()
    assert (odd.state, odd.error_code) == (State.ACCEPTED, "")


def test_a_poison_record_that_was_in_doubt_is_parked_with_its_doubt_on_record(local):
    record = make_record(local, NOON - HOUR)
    submission.submit_due(ScriptedAws(error_for("NoAnswer", "")), now=NOW)
    submission.submit_due(ScriptedAws(error_for("ValidationException", "")), now=LATER)
    record.refresh_from_db()
    assert record.state == State.PARKED
    assert record.submission_lines.maybe_taken().count() == 1


# --- Deadlines


def test_a_record_whose_window_is_over_expires_loudly_and_is_not_sent(local, caplog):
    late = make_record(local, NOON - 30 * HOUR)
    waiting = make_record(local, NOON - 31 * HOUR, state=State.WAITING)
    held = make_record(local, NOON - 32 * HOUR, state=State.HELD)
    aws = ScriptedAws()
    assert submission.submit_due(aws, now=NOW) == 0
    assert aws.batches == []
    for record in (late, waiting, held):
        record.refresh_from_db()
    assert (late.state, waiting.state, held.state) == (State.EXPIRED, State.EXPIRED, State.HELD)
    assert late.settled_at == NOW
    assert caplog.text.count("missed AWS's window") == 2
    (link,) = AuditEvent.objects.filter(action="records_expired", stream=f"agreement:{local.pk}")
    assert link.data == {"records": [late.pk, waiting.pk]}
    assert "Expired: 2 metering records" in caplog.text


def test_at_its_deadline_a_record_is_too_late(local):
    record = make_record(local, NOON - HOUR, submit_by=NOW)
    submission.submit_due(ScriptedAws(), now=NOW)
    record.refresh_from_db()
    assert record.state == State.EXPIRED


def test_a_long_run_ends_by_itself(local, monkeypatch):
    run = submission.Run(ScriptedAws(), lease=None, started_at=NOW)
    assert run.may_go_on
    monkeypatch.setattr(run, "_started", run._started - submission.RUN_LENGTH.total_seconds())
    assert not run.may_go_on
    assert run.now >= NOW + submission.RUN_LENGTH


# --- One submitter


def run_out():
    Lease.objects.filter(name=submission.LEASE).update(expires_at=Now() - timedelta(seconds=1))


@pytest.fixture
def at(monkeypatch):
    """Do something at a named line, the first time that it is reached."""

    def arrange(point, action):
        def reached(name):
            if name == point:
                monkeypatch.setattr(crashpoints, "when_reached", None)
                action()

        monkeypatch.setattr(crashpoints, "when_reached", reached)

    return arrange


@pytest.mark.parametrize("point", ["submission.leased", "submission.committed", "submission.answered"])
def test_a_second_submitter_leaves_at_once(local, at, point):
    make_record(local, NOON - HOUR)
    second, returned = ScriptedAws(), []
    at(point, lambda: returned.append(submission.submit_due(second, now=NOW)))
    assert submission.submit_due(ScriptedAws(), now=NOW) == 1
    assert returned == [0]
    assert second.batches == []


def test_a_stale_submitter_cannot_write_over_the_next_ones_outcome(local, at):
    record = make_record(local, NOON - HOUR)
    later = make_record(local, NOON - 2 * HOUR, wire_region="eu-west-1", dimension=second_dimension(local))
    current = ScriptedAws()

    def paused():
        run_out()
        assert submission.submit_due(current, now=NOW) == 2

    at("submission.answered", paused)
    stale = ScriptedAws(lambda lines: says("CustomerNotSubscribed", lines))
    assert submission.submit_due(stale, now=NOW) == 0
    for settled in (record, later):
        settled.refresh_from_db()
        assert (settled.state, settled.aws_record_id) == (State.ACCEPTED, f"id-{settled.pk}")
    ours = SubmissionLine.objects.exclude(status="Success")
    assert set(ours.values_list("status", flat=True)) == {""}
    assert SubmissionLine.objects.filter(status="Success").count() == 2
    local.refresh_from_db()
    assert local.flagged_at is None
    assert {lines for _, lines in current.batches} >= {lines for _, lines in stale.batches}


def test_a_stale_submitter_takes_nothing_more(local, at, caplog):
    poison = make_record(local, NOON - HOUR)
    make_record(local, NOON - 2 * HOUR)
    at("submission.answered", run_out)
    stale = ScriptedAws(error_for("ValidationException", ""))
    assert submission.submit_due(stale, now=NOW) == 0
    assert len(stale.batches) == 1
    assert "lease went to another" in caplog.text
    poison.refresh_from_db()
    assert poison.state == State.DUE


def test_what_was_claimed_but_never_left_goes_back_as_it_was(local, at, monkeypatch):
    due = make_record(local, NOON - HOUR)
    doubtful = make_record(local, NOON - 2 * HOUR, state=State.IN_DOUBT)
    # The process is stopped here for longer than its lease.
    at("submission.committed", lambda: monkeypatch.setattr(leases, "_clock", lambda: time.monotonic() + 1e6))
    aws = ScriptedAws()
    assert submission.submit_due(aws, now=NOW) == 0
    assert aws.batches == []
    for record, state in ((due, State.DUE), (doubtful, State.IN_DOUBT)):
        record.refresh_from_db()
        assert (record.state, lines_of(record)) == (state, ["NotSent"])
        assert not record.submission_lines.maybe_taken().exists()
    assert Submission.objects.get().error_code == "NotSent"


def test_a_slow_aws_loses_nobody_the_lease(local, monkeypatch):
    monkeypatch.setattr(submission, "LEASE_LENGTH", timedelta(seconds=1))
    monkeypatch.setattr(submission, "_RENEW_AFTER", timedelta(seconds=0.2))
    monkeypatch.setattr(submission, "_PATIENCE", 0.2)
    make_record(local, NOON - HOUR)
    make_record(local, NOON - HOUR, wire_region="eu-west-1", dimension=second_dimension(local))
    slow = ScriptedAws(lambda lines: time.sleep(2))
    held = []
    original = leases.Held.renew

    def renewed(lease):
        original(lease)
        held.append(Lease.objects.get(name=submission.LEASE).token)

    monkeypatch.setattr(leases.Held, "renew", renewed)
    assert submission.submit_due(slow, now=NOW) == 2
    assert len(held) > 4
    assert set(held) == {1}


def test_a_record_that_somebody_took_out_of_the_batch_is_not_sent(local, at):
    first, second = (make_record(local, hour) for hour in hours(2))
    at(
        "submission.picked",
        lambda: MeteringRecord.objects.filter(pk=second.pk).update(state=State.HELD),
    )
    aws = ScriptedAws()
    assert submission.submit_due(aws, now=NOW) == 1
    ((_, lines),) = aws.batches
    assert [line.reference for line in lines] == [first.pk]
    second.refresh_from_db()
    assert (second.state, second.attempts, lines_of(second)) == (State.HELD, 0, [])


def test_nothing_is_sent_when_all_of_a_batch_was_taken_out(local, at):
    make_record(local, NOON - HOUR)
    at("submission.picked", lambda: MeteringRecord.objects.update(state=State.HELD))
    aws = ScriptedAws()
    assert submission.submit_due(aws, now=NOW) == 0
    assert aws.batches == []
    assert not Submission.objects.exists()


def test_an_answer_is_written_whole_or_not_at_all(frozen, agreement, at):
    for hour in hours(3):
        make_record(agreement, hour)

    def dies():
        raise SystemExit

    at("submission.settled", dies)
    with pytest.raises(SystemExit):
        submission.submit_due(frozen.marketplace, now=NOW)
    assert states() == [State.IN_DOUBT] * 3
    assert Submission.objects.get().outcome == Submission.Outcome.SENT
    assert set(SubmissionLine.objects.values_list("status", flat=True)) == {""}
    assert submission.submit_due(frozen.marketplace, now=NOW) == 3
    assert frozen.billed() == "3"


@pytest.mark.parametrize("when", ["before AWS gets it", "after AWS took it"])
@pytest.mark.django_db(transaction=True)
def test_after_a_kill_between_claim_and_answer_the_next_run_converges(frozen, catalog, acme, when):
    agreement = bought_agreement(frozen, catalog, acme)
    record = make_record(agreement, NOON - HOUR, 7)
    connections.close_all()
    child = os.fork()
    if child == 0:

        def dies(lines):
            if when == "after AWS took it":
                frozen.marketplace.batch_meter_usage(lines, region="us-east-1")
            os.kill(os.getpid(), signal.SIGKILL)

        try:
            submission.submit_due(ScriptedAws(dies), now=NOW)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    record.refresh_from_db()
    assert (record.state, record.attempts) == (State.IN_DOUBT, 1)
    assert Submission.objects.get().outcome == Submission.Outcome.SENT
    # The dead submitter's lease holds until it runs out.
    assert submission.submit_due(frozen.marketplace, now=NOW) == 0
    run_out()
    assert submission.submit_due(frozen.marketplace, now=NOW) == 1
    record.refresh_from_db()
    assert (record.state, record.attempts) == (State.ACCEPTED, 2)
    assert frozen.billed() == "7"

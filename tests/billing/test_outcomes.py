"""What AWS says of one record in a full call, and what becomes of it and of its neighbours."""

import itertools
import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from billing import deadlines, submission
from billing.aws.errors import MEANINGS, MarketplaceUnavailable, Scope, error_for
from billing.aws.types import BatchAnswer, UsageOutcome
from billing.aws.window import HOUR
from billing.models import MeteringRecord, Submission, SubmissionLine
from billing.sending import outcomes, pacing
from tests.billing.ledger import NOON, ScriptedAws, make_agreement, make_record, says

NOW = NOON + timedelta(minutes=5)
LATER = NOW + timedelta(minutes=10)
State = MeteringRecord.State


@pytest.fixture
def full(catalog, acme):
    """Twenty-five records of two agreements: one call."""
    agreements = [make_agreement(catalog, acme), make_agreement(catalog, acme)]
    for number in range(25):
        make_record(agreements[number % 2], NOON - (1 + number // 2) * HOUR)
    return list(MeteringRecord.objects.order_by("submit_by", "pk"))


def but(odd, status, aws_id=None):
    """Success for all but one."""

    def answer(lines):
        said = says("Success", lines)
        return replace(
            said,
            outcomes=tuple(
                UsageOutcome(each.reference, status, aws_id) if each.reference == odd.pk else each
                for each in said.outcomes
            ),
        )

    return answer


def assert_neighbours_are_accepted(odd):
    neighbours = MeteringRecord.objects.exclude(pk=odd.pk)
    assert {(each.state, each.aws_record_id) for each in neighbours} == {
        (State.ACCEPTED, f"id-{each.pk}") for each in neighbours
    }
    said = SubmissionLine.objects.exclude(record=odd).exclude(status="Success")
    assert set(said.values_list("aws_record_id", flat=True)) <= {None}
    assert SubmissionLine.objects.filter(status="Success").exclude(record=odd).count() == 24


@pytest.mark.parametrize(
    ("status", "state", "again"),
    [
        ("CustomerNotSubscribed", State.WAITING, True),
        ("DuplicateRecord", State.CONFLICT, False),
        ("Splendid", State.IN_DOUBT, True),
        ("", State.IN_DOUBT, True),
        ("S" * 300, State.IN_DOUBT, True),
    ],
)
def test_one_odd_status_in_twenty_five_is_that_records_alone(full, status, state, again):
    odd = full[7]
    assert submission.submit_due(ScriptedAws(but(odd, status)), now=NOW) == 24
    odd.refresh_from_db()
    assert (odd.state, odd.next_attempt_at is not None, odd.aws_record_id) == (state, again, None)
    assert odd.submission_lines.get().status == status[:100]
    assert_neighbours_are_accepted(odd)


def test_a_success_without_an_id_is_accepted_all_the_same(full):
    odd = full[7]
    assert submission.submit_due(ScriptedAws(but(odd, "Success")), now=NOW) == 25
    odd.refresh_from_db()
    assert (odd.state, odd.aws_record_id) == (State.ACCEPTED, None)
    assert_neighbours_are_accepted(odd)


def test_one_unprocessed_record_and_one_without_an_answer_go_again(full):
    unprocessed, unnamed = full[3], full[20]

    def answer(lines):
        named = [line for line in lines if line.reference not in (unprocessed.pk, unnamed.pk)]
        return replace(says("Success", named), unprocessed=(unprocessed.pk,))

    assert submission.submit_due(ScriptedAws(answer), now=NOW) == 23
    unprocessed.refresh_from_db()
    unnamed.refresh_from_db()
    assert (unprocessed.state, unnamed.state) == (State.DUE, State.IN_DOUBT)
    assert submission.submit_due(ScriptedAws(), now=NOW + HOUR) == 2


RECORD_SCOPED = [code for code, meaning in MEANINGS.items() if meaning.scope is Scope.RECORD]


@pytest.mark.parametrize("code", [*RECORD_SCOPED, "BrandNewException", "N" * 300])
def test_every_refusal_of_one_record_is_isolated_from_its_neighbours(full, code):
    odd = full[24]

    def refuse(lines):
        return error_for(code, "") if odd.pk in {line.reference for line in lines} else None

    aws = ScriptedAws(refuse)
    assert submission.submit_due(aws, now=NOW) == 24
    odd.refresh_from_db()
    assert odd.state == (State.PARKED if code in RECORD_SCOPED else State.DUE)
    assert odd.error_code == code[:100]
    assert_neighbours_are_accepted(odd)
    assert len(aws.batches) <= 11
    whole = Submission.objects.get(parent=None)
    halves = [call.record_count for call in whole.halves.order_by("pk")]
    assert (whole.record_count, halves) == (25, [12, 13])
    for call in Submission.objects.filter(outcome="refused", record_count__gt=1):
        assert sum(half.record_count for half in call.halves.all()) == call.record_count


ACCOUNT_SCOPED = [code for code, meaning in MEANINGS.items() if meaning.scope is Scope.ACCOUNT]


@pytest.mark.parametrize("code", ACCOUNT_SCOPED)
def test_an_account_scoped_refusal_that_lasts_ten_minutes_parks_nothing(full, code):
    before = {(each.pk, each.state) for each in full}
    refused = ScriptedAws(error_for(code, ""))
    for minutes in range(0, 11, 5):
        assert submission.submit_due(refused, now=NOW + timedelta(minutes=minutes)) == 0
        assert set(MeteringRecord.objects.values_list("pk", "state")) == before
    assert not SubmissionLine.objects.all().maybe_taken().exists()
    assert submission.submit_due(ScriptedAws(), now=NOW + timedelta(minutes=11)) == 25


def test_answers_of_calls_in_flight_are_believed_when_another_stops_the_run(catalog, acme):
    agreement = make_agreement(catalog, acme)
    records = [
        make_record(agreement, NOON - (1 + number) * HOUR, wire_region=f"region-{number}")
        for number in range(6)
    ]
    regions = []

    three_left = threading.Event()

    def answer(lines):
        regions.append(lines[0].reference)
        # The first three are in flight together: the second is refused for the account.
        if len(regions) == 3:
            three_left.set()
        if lines[0].reference != second.pk:
            return None
        assert three_left.wait(10)
        return error_for("AccessDeniedException", "")

    second = sorted(records, key=lambda each: each.submit_by)[1]
    accepted = submission.submit_due(ScriptedAws(answer), now=NOW)
    states = list(MeteringRecord.objects.values_list("state", flat=True))
    assert states.count(State.ACCEPTED) == accepted == len(regions) - 1 >= 2
    assert states.count(State.DUE) == 6 - accepted
    second.refresh_from_db()
    assert second.state == State.DUE


def test_ten_calls_are_in_flight_once_aws_answers_and_never_more(catalog, acme):
    agreement = make_agreement(catalog, acme)
    for number in range(23):
        make_record(agreement, NOON - (1 + number) * HOUR, wire_region=f"region-{number}")
    calls, in_flight, most = itertools.count(1), set(), []
    ten_at_once = threading.Event()

    def answer(lines):
        call = next(calls)
        in_flight.add(call)
        most.append(len(in_flight))
        if len(in_flight) == 10:
            ten_at_once.set()
        if call > 3:
            ten_at_once.wait(timeout=30)
        in_flight.discard(call)

    assert submission.submit_due(ScriptedAws(answer), now=NOW) == 23
    assert max(most[:3]) <= 3
    assert max(most) == 10


def test_throttled_the_run_slows_and_everything_stays_due(catalog, acme, monkeypatch):
    monkeypatch.setattr(pacing, "_LONGEST_PAUSE", 0.01)
    agreement = make_agreement(catalog, acme)
    for number in range(20):
        make_record(agreement, NOON - (1 + number) * HOUR, wire_region=f"region-{number}")
    aws = ScriptedAws(error_for("ThrottlingException", ""))
    assert submission.submit_due(aws, now=NOW) == 0
    # It gives up for now, long before it has annoyed AWS with all of them.
    assert 6 <= len(aws.batches) <= 18
    assert set(MeteringRecord.objects.values_list("state", flat=True)) == {State.DUE}
    assert not SubmissionLine.objects.all().maybe_taken().exists()
    assert submission.submit_due(ScriptedAws(), now=NOW + HOUR) == 20


def test_pauses_grow_and_differ():
    first, third = outcomes.pause(0), outcomes.pause(2)
    assert timedelta(seconds=2.5) <= first <= timedelta(seconds=5)
    assert timedelta(seconds=10) <= third <= timedelta(seconds=20)
    assert outcomes.pause(1000) <= timedelta(minutes=5)
    assert len({outcomes.pause(5) for _ in range(10)}) > 1


def test_a_defect_of_ours_is_told_and_leaves_the_records_in_doubt(full, caplog):
    assert submission.submit_due(ScriptedAws(ZeroDivisionError()), now=NOW) == 0
    assert "broke off" in caplog.text
    assert set(MeteringRecord.objects.values_list("state", flat=True)) == {State.IN_DOUBT}
    assert submission.submit_due(ScriptedAws(), now=LATER) == 25


def stumbles_over(poison, how):
    """AWS, or boto3, or we trip over each call with this record in it."""

    def answer(lines):
        if any(line.reference == poison.pk for line in lines):
            raise how
        return None

    return ScriptedAws(answer)


@pytest.mark.parametrize(
    "how",
    [ValueError("year 58771 is out of range"), MarketplaceUnavailable("UnreadableAnswer"),
     error_for("InternalServiceErrorException", "", status=500), MarketplaceUnavailable("NoAnswer")],
    ids=["a defect", "unreadable", "a fault", "a time-out"],
)  # fmt: skip
def test_a_record_over_which_a_call_always_breaks_off_takes_no_neighbour_with_it(catalog, acme, how):
    agreements = [make_agreement(catalog, acme) for _ in range(10)]
    records = [make_record(each, NOON - back * HOUR) for each in agreements for back in range(1, 11)]
    poison = min(records, key=lambda record: (record.submit_by, record.pk))
    aws = stumbles_over(poison, how)
    for number in range(12):
        submission.submit_due(aws, now=NOW + number * timedelta(minutes=5))
    found = MeteringRecord.objects.exclude(state=State.ACCEPTED)
    assert [(record.pk, record.state) for record in found] == [(poison.pk, State.IN_DOUBT)]
    deadlines.expire(now=NOW + 25 * HOUR)
    poison.refresh_from_db()
    assert poison.state == State.EXPIRED


@pytest.mark.parametrize("status", ["Success", "CustomerNotSubscribed"])
@pytest.mark.parametrize("length", [256, 5000])
def test_longer_words_of_aws_than_there_is_room_for_are_cut(full, length, status):
    def answer(lines):
        told = says(status, lines)
        outcomes = [replace(each, metering_record_id="x" * length) for each in told.outcomes]
        return replace(told, outcomes=tuple(outcomes), request_id="r" * length)

    submission.submit_due(ScriptedAws(answer), now=NOW)
    assert not MeteringRecord.objects.filter(state=State.IN_DOUBT).exists()
    assert Submission.objects.get().aws_request_id == "r" * 100
    if status == "Success":
        assert set(MeteringRecord.objects.values_list("aws_record_id", flat=True)) == {"x" * 255}


@pytest.mark.postgresql
@pytest.mark.django_db
def test_an_answer_that_the_database_refuses_is_as_good_as_none(catalog, acme, caplog):
    agreements = [make_agreement(catalog, acme) for _ in range(10)]
    for each in agreements:
        for back in range(1, 11):
            make_record(each, NOON - back * HOUR)
    bad = []

    def answer(lines):
        told = says("Success", lines)
        bad.append(lines) if not bad else None
        if lines != bad[0]:
            return told
        return replace(
            told, outcomes=tuple(replace(each, metering_record_id="\x00") for each in told.outcomes)
        )

    assert submission.submit_due(ScriptedAws(answer), now=NOW) == 75
    assert "cannot be stored" in caplog.text
    left = MeteringRecord.objects.exclude(state=State.ACCEPTED)
    assert {record.state for record in left} == {State.IN_DOUBT}
    assert {record.pk for record in left} == {line.reference for line in bad[0]}
    assert all(record.next_attempt_at is not None for record in left)


def test_an_answer_about_nothing_that_was_sent_changes_nothing(full):
    stranger = UsageOutcome(10**9, "Success", "id")
    aws = ScriptedAws(lambda lines: BatchAnswer((stranger,), (10**9 + 1,), "request-1"))
    assert submission.submit_due(aws, now=NOW) == 0
    assert set(MeteringRecord.objects.values_list("state", flat=True)) == {State.IN_DOUBT}


def test_thousands_of_records_go_out_in_full_calls_and_ten_at_most_are_in_flight(catalog, acme):
    agreements = [make_agreement(catalog, acme) for _ in range(75)]
    first = make_record(agreements[0], NOON - 21 * HOUR)
    columns = {
        field.attname: getattr(first, field.attname)
        for field in MeteringRecord._meta.concrete_fields
        if field.name not in ("id", "hour", "agreement", "wire_license_arn", "wire_account_id")
    }
    MeteringRecord.objects.bulk_create(
        MeteringRecord(
            **columns,
            agreement=agreement,
            hour=NOON - back * HOUR,
            wire_license_arn=agreement.license_arn,
            wire_account_id=agreement.customer.aws_account_id,
        )
        for agreement in agreements
        for back in range(1, 21)
    )
    in_flight, most = set(), []

    def answer(lines):
        in_flight.add(lines[0].reference)
        most.append(len(in_flight))
        time.sleep(0.001)
        in_flight.discard(lines[0].reference)

    aws = ScriptedAws(answer)
    assert submission.submit_due(aws, now=NOW) == 1501
    assert sorted(len(lines) for _, lines in aws.batches) == [1] + [25] * 60
    assert max(most) <= 10
    assert not MeteringRecord.objects.exclude(state=State.ACCEPTED).exists()
    assert not SubmissionLine.objects.exclude(status="Success").exists()
    assert not Submission.objects.exclude(outcome="answered").exists()


def test_calls_that_were_made_ready_wait_while_aws_throttles(catalog, acme):
    agreement = make_agreement(catalog, acme)
    for number in range(23):
        make_record(agreement, NOON - (1 + number) * HOUR, wire_region=f"region-{number}")
    left, calls = [], itertools.count(1)

    def answer(lines):
        left.append(time.monotonic())
        if next(calls) == 4:
            return error_for("ThrottlingException", "")
        time.sleep(0.1)

    assert submission.submit_due(ScriptedAws(answer), now=NOW) == 22
    # Those in flight with it had left already and take 0.1 s; the others wait for half a second or more.
    gaps = [later - sooner for sooner, later in itertools.pairwise(sorted(left)[3:])]
    assert max(gaps) > 0.3

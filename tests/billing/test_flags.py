"""What a person must look at: said once, with its reason, and access stays as it is."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from billing import audit, events, flags
from billing.models import Agreement, AuditEvent, MarketplaceEvent
from tests.billing.ledger import BEGIN, NOON, make_agreement
from tests.billing.notices import created, ended, eventbridge, license_updated, sns
from tests.billing.stage import DAY, HOUR, MINUTE, SECOND, Stage, take


@pytest.fixture
def agreement(catalog, acme):
    return make_agreement(catalog, acme)


def flag_of(agreement):
    agreement.refresh_from_db()
    return agreement.flagged_at, agreement.flag_reason


def errors(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def actions():
    links = AuditEvent.objects.filter(action__contains="flag").order_by("sequence")
    return [(link.action, link.actor, link.data["reason"]) for link in links]


@transaction.atomic
def raised(agreement, reason, *, at=NOON):
    return flags.raise_flag(agreement, reason, at=at)


@transaction.atomic
def lowered(agreement, reason, *, at=NOON, by="aws"):
    flags.lower_flag(agreement, reason, by=by, at=at)


def test_a_flag_is_raised_once_and_the_first_reason_stays(agreement, caplog):
    assert raised(agreement, flags.NOT_SUBSCRIBED)
    assert not raised(agreement, flags.NOT_SUBSCRIBED, at=NOON + HOUR)
    assert flag_of(agreement) == (NOON, flags.NOT_SUBSCRIBED)
    assert errors(caplog) == [f"Agreement {agreement.pk} is flagged: {flags.NOT_SUBSCRIBED}"]
    assert actions() == [("flagged", "aws", flags.NOT_SUBSCRIBED)]


def test_another_reason_is_told_and_audited_once_while_the_first_is_shown(agreement, caplog):
    raised(agreement, flags.NOT_SUBSCRIBED)
    assert raised(agreement, flags.ADVISORY, at=NOON + HOUR)
    assert not raised(agreement, flags.ADVISORY, at=NOON + 2 * HOUR)
    assert not raised(agreement, flags.NOT_SUBSCRIBED, at=NOON + 2 * HOUR)
    assert flag_of(agreement) == (NOON, flags.NOT_SUBSCRIBED)
    assert len(errors(caplog)) == 2
    assert actions() == [("flagged", "aws", flags.NOT_SUBSCRIBED), ("flagged", "aws", flags.ADVISORY)]


def test_only_its_own_reason_lowers_a_flag(agreement, operator):
    lowered(agreement, flags.ADVISORY)
    assert actions() == []
    raised(agreement, flags.NOT_SUBSCRIBED)
    lowered(agreement, flags.ADVISORY)
    assert flag_of(agreement) == (NOON, flags.NOT_SUBSCRIBED)
    lowered(agreement, flags.NOT_SUBSCRIBED, by=operator)
    lowered(agreement, flags.NOT_SUBSCRIBED, by=operator)
    assert flag_of(agreement) == (None, "")
    assert actions()[1:] == [("flag_lowered", f"user:{operator.pk}", flags.NOT_SUBSCRIBED)]
    assert raised(agreement, flags.ADVISORY)
    assert list(audit.verify()) == []


def test_every_reason_fits_its_column():
    longest = Agreement._meta.get_field("flag_reason").max_length
    reasons = [value for name, value in vars(flags).items() if name.isupper()]
    assert len(reasons) >= 5
    assert all(len(reason) <= longest for reason in reasons)


# --- Facts page, case 64


def test_64_an_advisory_alarms_people_and_leaves_access_as_it_is(aws, acme, acme_admin, caplog):
    stage = Stage(aws, acme_admin)
    agreement = stage.buy(acme)
    before = stage.allows(acme)
    aws.control.issue_advisory(agreement.agreement_id)
    issued_at = stage.pass_time(SECOND)
    assert flag_of(agreement) == (issued_at, flags.ADVISORY)
    assert agreement.advisory_issued_at == issued_at - SECOND
    assert errors(caplog) == [f"Agreement {agreement.pk} is flagged: {flags.ADVISORY}"]
    stage.pass_time(DAY)
    assert flag_of(agreement) == (issued_at, flags.ADVISORY)
    assert (agreement.status, stage.allows(acme)) == ("active", before)

    aws.control.resolve_advisory(agreement.agreement_id)
    stage.pass_time(SECOND)
    assert (flag_of(agreement), agreement.advisory_issued_at) == ((None, ""), None)
    assert (agreement.status, stage.allows(acme)) == ("active", before)
    assert [action for action, _, _ in actions()] == ["flagged", "flag_lowered"]
    assert list(audit.verify()) == []


def advisory(what, at, **options):
    return eventbridge(f"Purchase Agreement Advisory {what} - Manufacturer", at, **options)


def test_an_advisory_that_was_resolved_before_we_heard_of_it_raises_nothing(catalog):
    take(license_updated(BEGIN))
    take(advisory("Resolved", NOON + HOUR), now=NOON + HOUR)
    take(advisory("Issued", NOON), now=NOON + 2 * HOUR)
    assert flag_of(Agreement.objects.get()) == (None, "")


def test_a_resolved_advisory_leaves_the_flag_of_another_reason(catalog):
    take(license_updated(BEGIN))
    agreement = Agreement.objects.get()
    raised(agreement, flags.NOT_SUBSCRIBED)
    take(advisory("Issued", NOON))
    assert flag_of(agreement)[1] == flags.NOT_SUBSCRIBED
    assert agreement.advisory_issued_at == NOON
    take(advisory("Resolved", NOON + HOUR))
    assert flag_of(agreement)[1] == flags.NOT_SUBSCRIBED


@pytest.mark.parametrize("stem", ["Vet Failed", "Purchase Agreement Vet Failed"])
def test_a_buyer_that_aws_could_not_vet_is_flagged(catalog, caplog, stem):
    take(license_updated(BEGIN, product="reports-payg"))
    body = eventbridge(f"{stem} - Proposer", NOON, source_id="vet")
    take(body, body)
    agreement = Agreement.objects.get()
    assert flag_of(agreement) == (NOON, flags.VET_FAILED)
    assert agreement.status == "active"
    assert len(errors(caplog)) == 1


# --- What waits for a purchase that nobody knows


def test_what_waits_for_longer_than_a_day_is_told_once_in_one_line(catalog, caplog):
    take(created(NOON, agreement_id="agmt-1"), ended(NOON, agreement_id="agmt-2"), now=NOON)
    take(sns("unsubscribe-pending", NOON + HOUR), now=NOON + HOUR)
    first, second, third = MarketplaceEvent.objects.order_by("pk")
    assert events.alarm_of_waiting(now=NOON + DAY - SECOND) == 0
    assert errors(caplog) == []
    assert events.alarm_of_waiting(now=NOON + DAY) == 2
    (line,) = errors(caplog)
    assert line.startswith("2 events have waited")
    assert f"{first.pk}, {second.pk}." in line
    assert events.alarm_of_waiting(now=NOON + DAY + 30 * MINUTE) == 0
    assert events.alarm_of_waiting(now=NOON + DAY + HOUR) == 1
    assert len(errors(caplog)) == 2
    alarmed = MarketplaceEvent.objects.order_by("pk").values_list("alarmed_at", flat=True)
    assert list(alarmed) == [NOON + DAY, NOON + DAY, NOON + DAY + HOUR]
    third.refresh_from_db()
    assert third.state == "waiting"


def test_what_has_found_its_purchase_alarms_nobody(catalog, caplog):
    take(created(NOON), now=NOON)
    take(license_updated(NOON + MINUTE), now=NOON + MINUTE)
    assert events.alarm_of_waiting(now=NOON + timedelta(days=9)) == 0
    assert errors(caplog) == []


def test_of_very_many_the_line_names_a_few(catalog, caplog):
    MarketplaceEvent.objects.bulk_create(
        MarketplaceEvent(
            channel="eventbridge", source_id=f"e{number}", kind="k", occurred_at=NOON, received_at=NOON,
            body="{}", state="waiting",
        )
        for number in range(1100)
    )  # fmt: skip
    told = [events.alarm_of_waiting(now=NOON + DAY) for _ in range(3)]
    assert told == [1000, 100, 0]
    assert max(len(line) for line in errors(caplog)) < 400

"""Four would-be submitters at once: one sends, at AWS's pace, also when one was stopped past its lease."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.aws import wire
from billing.aws.window import HOUR, accepted_until, hour_of
from billing.models import MeteringRecord
from tests.billing.ledger import REGION, make_agreement
from tests.journeys import submitters
from tests.journeys.crashes import free_the_lease

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

SECONDS = 4


@pytest.fixture
def owed(aws, catalog, acme):
    """Makes records of finished hours that AWS takes, for so many customers: six each."""

    def make(customers):
        now = timezone.now()
        hours = [hour_of(now) - back * HOUR for back in range(1, 7)]
        pages = catalog["reports-payg"].dimensions.get(key="pages")
        for _ in range(customers):
            bought = aws.buy("reports-payg", started_at=now - timedelta(days=1))
            agreement = make_agreement(
                catalog, acme, account=bought.aws_account_id, agreement_id=bought.agreement_id,
                license_arn=bought.license_arn, license_id=bought.license_arn.rpartition(":")[2],
                activated_at=now - timedelta(days=1),
            )  # fmt: skip
            MeteringRecord.objects.bulk_create(
                MeteringRecord(
                    agreement=agreement, dimension=pages, hour=hour, used=2, included=0, quantity=2,
                    wire_license_arn=agreement.license_arn, wire_account_id=bought.aws_account_id,
                    wire_region=REGION, wire_timestamp=hour, wire_quantity=wire.quantity_text(2),
                    submit_by=accepted_until(hour, closes_at=None),
                )
                for hour in hours
            )  # fmt: skip

    return make


def prove(aws, owed, *, seconds):
    aws.control.switch(quotas=True)
    # AWS takes its time, so that whoever is stopped has calls in flight.
    aws.control.fault("BatchMeterUsage", "latency", seconds=0.2, count=None)
    owed(customers=int(seconds * 45))
    calls = submitters.race(aws, seconds=seconds)
    submitters.assert_one_at_a_time(calls)
    submitters.assert_within_quota(calls)
    aws.control.clear_faults()
    free_the_lease()
    return calls


def test_one_submits_at_a_time_though_one_wakes_past_its_lease(aws, owed, monkeypatch):
    submitters.hurry(monkeypatch)
    prove(aws, owed, seconds=SECONDS)
    with submitters.submitters(1):
        waited_until = timezone.now() + timedelta(seconds=60)
        while MeteringRecord.objects.sendable().exists():
            assert timezone.now() < waited_until
    assert set(MeteringRecord.objects.values_list("state", flat=True)) == {"accepted"}
    # These records have no usage behind them: what AWS bills is compared with them alone.
    lines = aws.control.invoice()["lines"]
    records = MeteringRecord.objects.values_list("aws_record_id", "agreement__agreement_id", "wire_quantity")
    assert sorted((line["metering_record_id"], line["agreement_id"], line["quantity"]) for line in lines) == (
        sorted(records)
    )
    assert not any(line["billed_twice"] for line in lines)

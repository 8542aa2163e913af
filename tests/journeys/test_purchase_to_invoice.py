"""From a token to an accepted record, through the flows, with real boto3."""

from datetime import timedelta
from decimal import Decimal

from django.utils import timezone

from billing import effects, gates, metering, submission, usage
from billing.aws.window import HOUR, hour_of
from billing.models import MeteringRecord


def test_a_purchase_becomes_a_billed_record(aws, purchase, acme):
    agreement = purchase("reports-flex", quantities={"included_pages": 100})
    now = timezone.now()
    assert agreement.status == "active"

    effects.run_due(aws.marketplace, now=now)
    assert gates.allows(acme, "reports", now=now)

    last_hour = hour_of(now) - HOUR
    usage.record(
        acme, "pages", 130, key="report-1", tags={"team": "ml"}, occurred_at=last_hour + timedelta(minutes=30)
    )
    assert metering.close_hours(region="us-east-1", now=now) == 1
    assert submission.submit_due(aws.marketplace, now=now) == 1

    record = MeteringRecord.objects.get()
    assert (record.used, record.included, record.quantity) == (Decimal(130), Decimal(100), Decimal(30))
    assert record.state == MeteringRecord.State.ACCEPTED
    assert record.aws_record_id
    assert aws.billed() == "30"

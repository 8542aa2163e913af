"""AWS's documented samples and the one live purchase whose events were seen (docs/aws-marketplace.md §4)."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings

from billing import events
from billing.inbox.notifications import Type, parse
from billing.models import Agreement, MarketplaceEvent
from tests.billing.notices import message, sns

PAGE = (settings.BASE_DIR / "docs/aws-marketplace.md").read_text(encoding="utf-8")
[SAMPLE] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
DAY = datetime(2026, 8, 20, tzinfo=UTC)
ACCEPTED = DAY.replace(hour=13, minute=58, second=12)


def test_the_documented_event_is_read_whole(catalog):
    found = parse(message(SAMPLE))
    assert (found.type, found.occurred_at) == (Type.LICENSE_UPDATED, datetime(2026, 11, 23, 10, tzinfo=UTC))
    assert (found.agreement_id, found.offer_id) == ("agmt-x1", "offer-x1")
    assert (found.product_code, found.product_id) == ("pc1", "prod-x1")
    assert found.license_arn.endswith(":license:l-0123456789abcdef0123456789abcdef")
    assert found.aws_account_id == "222222222222"


def event(kind, at, detail, **agreement):
    return json.dumps(
        {
            "version": "0", "id": f"{kind} {at:%H%M%S}", "detail-type": kind,
            "source": "aws.agreement-marketplace",
            "account": "111111111111", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}", "region": "us-east-1",
            "resources": ["arn:aws:aws-marketplace::aws:agreement:agmt-live"],
            "detail": {
                "requestId": "r", "catalog": "AWSMarketplace", "acceptor": {"accountId": "222222222222"},
                "proposer": {"accountId": "111111111111"}, **detail,
                "agreement": {"id": "agmt-live", **agreement},
            },
        }
    )  # fmt: skip


def license_event(kind, at, arn="arn:aws:license-manager::294406891311:license:l-" + "ab" * 16):
    product = {"id": "prod-acmepayg00001", "code": "reports-payg"}
    return event(
        f"{kind} - Manufacturer",
        at,
        {"license": {"arn": arn}, "product": product, "offer": {"id": "offer-live"}},
    )


# Created 11 seconds after acceptance, License Updated 61 after that; Ended without an offer, and the license
# gone 31 seconds later. Agreement events carry neither product nor license.
LIVE = [
    event(
        "Purchase Agreement Created - Proposer",
        ACCEPTED + timedelta(seconds=11),
        {"offer": {"id": "offer-live"}, "resaleAuthorization": {"id": None}},
        intent="NEW",
        status="ACTIVE",
        acceptanceTime="2026-08-20T13:58:12Z",
        startTime="2026-08-20T13:58:12Z",
        endTime="9999-01-01T00:00:00Z",
    ),
    license_event("License Updated", ACCEPTED + timedelta(seconds=72)),
    event(
        "Purchase Agreement Ended - Proposer",
        DAY.replace(hour=14, minute=24, second=57),
        {},
        status="CANCELLED",
    ),
    license_event("License Deprovisioned", DAY.replace(hour=14, minute=25, second=28)),
]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_the_live_purchase_ends_as_aws_ended_it(catalog, order):
    for number in order:
        events.store(message(LIVE[number]), now=DAY)
        events.apply_received(now=DAY.replace(hour=14, minute=26))
    agreement = Agreement.objects.get()
    assert (agreement.status, agreement.end_reason) == ("ending", "CANCELLED")
    assert agreement.activated_at == ACCEPTED + timedelta(seconds=72)
    assert agreement.ended_at == DAY.replace(hour=14, minute=24, second=57)
    assert agreement.metering_closes_at == DAY.replace(hour=15, minute=25, second=28)
    assert (agreement.term_starts_at, agreement.term_ends_at) == (ACCEPTED, None)
    assert (agreement.intent, agreement.offer_id, agreement.access_until) == ("NEW", "offer-live", None)
    assert not MarketplaceEvent.objects.exclude(state="applied").exists()


def test_the_samples_print_a_license_without_its_prefix_and_with_a_region(catalog):
    events.store(message(LIVE[1]), now=DAY)
    printed = "aws:license-manager:us-east-1:294406891311:l-" + "ab" * 16
    events.store(message(license_event("License Deprovisioned", DAY.replace(hour=15), printed)), now=DAY)
    events.apply_received(now=DAY.replace(hour=15))
    assert Agreement.objects.get().status == "ending"


RENEWED = event(
    "Purchase Agreement Created - Proposer",
    DAY,
    {"product": {"id": "prod-acmeflex00001", "title": "Acme Reports Flex"}, "offer": {"id": "offer-2"}},
    intent="RENEW",
    previousAgreementId="agmt-before",
    status="ACTIVE",
)


def test_what_a_renewal_and_an_amendment_say_by_the_way():
    renewed = parse(message(RENEWED))
    assert (renewed.intent, renewed.previous_agreement_id) == ("RENEW", "agmt-before")
    assert (renewed.product_id, renewed.product_code) == ("prod-acmeflex00001", None)
    amended = event(
        "Purchase Agreement Amended - Proposer",
        DAY,
        {"renewalSummary": {"lockoutStartTime": None, "disabledBy": "ACCEPTOR"}},
        intent="AMEND",
        autoRenewalEnabled=False,
    )
    assert parse(message(amended)).auto_renews is False


def test_a_renewal_of_somebody_elses_product_is_foreign_and_silent(catalog, caplog):
    events.store(message(RENEWED.replace("prod-acmeflex00001", "prod-of-another")), now=DAY)
    events.apply_received(now=DAY)
    assert MarketplaceEvent.objects.get().state == "foreign"
    assert caplog.records == []


@pytest.mark.parametrize(
    ("action", "type_", "more"),
    [
        ("subscribe-success", Type.SUBSCRIBED,
         {"offer-identifier": "offer-1", "isFreeTrialTermPresent": "true"}),
        ("subscribe-fail", Type.SUBSCRIBE_FAILED, {"offer-identifier": "offer-1"}),
        ("unsubscribe-pending", Type.UNSUBSCRIBE_PENDING, {"isFreeTrialTermPresent": "false"}),
        ("unsubscribe-success", Type.UNSUBSCRIBED, {}),
        ("entitlement-updated", Type.ENTITLEMENT_UPDATED, {}),
    ],
)  # fmt: skip
def test_each_action_of_sns_is_read_with_its_keys(action, type_, more):
    found = parse(message(sns(action, DAY, **more)))
    assert (found.type, found.customer_identifier, found.product_code) == (type_, "cust1", "reports-classic")
    assert found.offer_id == more.get("offer-identifier")
    assert found.free_trial is (more.get("isFreeTrialTermPresent") == "true")

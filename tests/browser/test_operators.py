"""Operators in Chromium: why was this billed, writing off with a reason, applying an event again."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, expect

from billing import effects, metering, submission, usage
from billing.models import Agreement, AuditEvent, MarketplaceEvent, MeteringRecord

pytestmark = pytest.mark.browser

REASON = "The buyer was promised this hour for nothing."


@pytest.fixture
def desk(page: Page, live_server, operator) -> Page:
    """An operator's browser, signed in."""
    client = Client()
    client.force_login(operator)
    page.context.add_cookies(
        [{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}]
    )
    page.goto(f"{live_server.url}/admin/")
    return page


@pytest.fixture
def metered(aws, acme, purchase) -> Agreement:
    """A contract of 5 pages, used beyond it two hours ago; the hour is closed."""
    agreement = purchase("reports-flex", quantities={"included_pages": 5})
    now = timezone.now()
    effects.run_due(aws.marketplace, now=now)
    for number, pages in enumerate((4, 8)):
        usage.record(acme, "pages", pages, key=f"job-{number}", occurred_at=now - timedelta(hours=2))
    metering.close_hours(region="us-east-1", now=now)
    return agreement


def test_why_a_buyer_was_billed_takes_three_clicks(desk, aws, metered):
    submission.submit_due(aws.marketplace, now=timezone.now())
    record = metered.metering_records.get(used=12)
    desk.locator('a[href$="/admin/billing/agreement/"]').first.click()
    desk.get_by_role("link", name=re.compile("Acme · Acme Reports Flex")).first.click()  # the purchase
    desk.locator(f'a[href*="/meteringrecord/{record.pk}/"]').first.click()  # its hour

    main = desk.locator("#content, main").first
    for told in ("job-0", "job-1", "12", "7", record.aws_record_id):
        expect(main).to_contain_text(told)


def test_writing_off_takes_a_reason_that_the_audit_trail_keeps(desk, live_server, metered, operator):
    record = metered.metering_records.get(used=12)
    MeteringRecord.objects.filter(pk=record.pk).update(state=MeteringRecord.State.PARKED)
    desk.goto(f"{live_server.url}/admin/billing/meteringrecord/{record.pk}/change/")
    desk.get_by_role("button", name="Write off").click()
    expect(desk.locator("body")).to_contain_text("What will happen")
    desk.get_by_label("Reason").fill(REASON)
    desk.get_by_role("button", name="Write off").click()

    record.refresh_from_db()
    assert record.state == MeteringRecord.State.WRITTEN_OFF
    link = AuditEvent.objects.get(action="records_written_off")
    assert link.actor == f"user:{operator.pk}"
    desk.goto(f"{live_server.url}/admin/billing/auditevent/")
    expect(desk.locator("body")).to_contain_text(REASON)


def test_a_failed_event_is_applied_again(desk, live_server, metered):
    event = metered.events.earliest("pk")
    MarketplaceEvent.objects.filter(pk=event.pk).update(state=MarketplaceEvent.State.FAILED, error="Not now.")
    desk.goto(f"{live_server.url}/admin/billing/marketplaceevent/{event.pk}/change/")
    desk.get_by_role("button", name="Apply again").click()
    desk.get_by_label("Reason").fill("The cause of the failure is mended.")
    desk.get_by_role("button", name="Apply again").click()

    event.refresh_from_db()
    assert event.state in (MarketplaceEvent.State.APPLIED, "replayed")

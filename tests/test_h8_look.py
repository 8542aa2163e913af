from datetime import timedelta
import pytest
from django.utils import timezone
from allauth.mfa.models import Authenticator
from billing import clock, effects, events, metering, registration, submission, usage
from billing.models import *
from tests.billing.ledger import *
from tests.billing.notices import *
from tests.plugin import PASSWORD
from tests.chromium import chromium, page
from billing.aws.window import hour_of

@pytest.mark.django_db(transaction=True)
def test_look(live_server, page, aws, purchase, acme, acme_admin, make_user, settings, client):
    settings.DEBUG = True
    agreement = purchase("reports-flex", quantities={"included_pages": 100}, ago=timedelta(hours=50))
    now = timezone.now()
    effects.run_due(aws.marketplace, now=now)
    for n in range(30):
        usage.record(acme, "pages", 13, key=f"r{n}", occurred_at=now - timedelta(hours=n+1, minutes=3), agreement=agreement, now=now)
    metering.close_hours(region="us-east-1", now=now)
    submission.submit_due(aws.marketplace, now=now)
    from billing import flags, customers
    from django.db import transaction
    with transaction.atomic():
        flags.raise_flag(customers.lock(agreement.pk), flags.ADVISORY, at=now)
    aws.control.cancel(agreement.agreement_id)
    aws.control.advance(timedelta(minutes=2))
    aws.deliver(now=now + timedelta(minutes=5))
    effects.run_due(aws.marketplace, now=now + timedelta(minutes=6))
    effects.run_due(aws.marketplace, now=now + timedelta(minutes=20))
    Effect.objects.filter(state="due").update(error="SMTPServerDisconnected: please run connect() first", attempts=4)
    olga = make_user("olga@seller.example", name="Olga", is_staff=True, is_superuser=True)
    client.force_login(olga)
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    for scheme in ("light", "dark"):
        for width in (1280, 390):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(f"{live_server.url}/admin/billing/agreement/{agreement.pk}/change/")
            page.screenshot(path=f"/tmp/h8_{scheme}_{width}.png", full_page=True)
            page.set_viewport_size({"width": width, "height": 1300}); page.evaluate("document.getElementById(\"history\").scrollIntoView()"); page.screenshot(path=f"/tmp/h8_panel_{scheme}_{width}.png")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")
    page.goto(f"{live_server.url}/admin/billing/marketplaceevent/")
    page.screenshot(path=f"/tmp/h8_events.png", full_page=True)

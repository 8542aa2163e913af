"""The story that `make demo` plays, with every task run in place, and read in admin afterwards."""

from decimal import Decimal

import pytest
from django.urls import include, path
from django.utils import timezone

from accounts.models import Membership, Organization
from billing import audit
from billing.models import (
    Agreement,
    AuditEvent,
    Effect,
    Entitlement,
    MarketplaceEvent,
    MeteringRecord,
    Registration,
    SubmissionLine,
)
from marketplace_saas import celery_app, outbox
from marketplace_saas.demo import ledger
from marketplace_saas.demo.player import Stage, play
from marketplace_saas.urls import urlpatterns as site_urls

# With DEBUG the site has an outbox, where the buyers of the story read their codes.
urlpatterns = [*site_urls, path("outbox/", include(outbox.urlpatterns))]


# What each list of admin must show of the story.
IN_ADMIN = {
    "accounts/user": ["ada@northwind.example", "bram@lumen.example", "chen@harbor.example"],
    "accounts/organization": ["Northwind", "Lumen Labs", "Harbor &amp; Co"],
    "billing/marketplacecustomer": ["210987654321", "345678901234", "456789012345"],
    "billing/agreement": ["Northwind", "Lumen Labs", "Harbor &amp; Co"],
    "billing/registration": ["Northwind", "Lumen Labs", "Harbor &amp; Co"],
    "billing/marketplaceevent": ["Purchase Agreement Created", "License Updated", "License Deprovisioned"],
    "billing/effect": ["Read the entitlements", "Send the last usage"],
    "billing/entitlement": ["included_pages", "seats"],
    "billing/usageevent": ["render:n-1", "render:n-2", "render:l-1", "render:h-1"],
    "billing/meteringrecord": ["130", "62.5", "12.25"],
    "billing/submission": ["Answered"],
    "billing/submissionline": ["Success"],
    "billing/auditevent": ["buyer_arrived", "claimed", "status_changed", "hours_closed"],
}


@pytest.fixture
def stage(aws, live_server, settings, tmp_path):
    settings.ROOT_URLCONF = __name__
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = tmp_path
    aws.simulator.state.change_conditions(fulfillment_url=f"{live_server.url}/marketplace/register/")
    aws.control.set_offset(-7200)
    celery_app.conf.task_always_eager = True
    said: list[str] = []
    yield Stage(live_server.url, aws.simulator.url, check=lambda: None, say=said.append)
    celery_app.conf.task_always_eager = False
    assert len(said) == 14


def test_the_story_ends_with_an_invoice_that_equals_our_records(stage, aws, client, operator, caplog):
    caplog.set_level("DEBUG")
    ada, _, _ = play(stage)

    rows = ledger.compare(aws.control.invoice())
    assert [(row.customer, row.recorded, row.included, row.metered, row.billed) for row in rows] == [
        ("Northwind", Decimal(130), Decimal(100), Decimal(30), Decimal(30)),
        ("Lumen Labs", Decimal("62.5"), Decimal(50), Decimal("12.5"), Decimal("12.5")),
        ("Harbor & Co", Decimal("12.25"), Decimal(0), Decimal("12.25"), Decimal("12.25")),
    ]
    assert all(row.agrees for row in rows)
    (northwind,) = [line for line in aws.control.invoice()["lines"] if line["aws_account_id"] == ada.account]
    assert {tuple(part["tags"].items()): part["quantity"] for part in northwind["allocations"]} == {
        (("team", "finance"),): "19.615385",
        (("team", "research"),): "10.384615",
    }

    # Two purchases of one AWS account belong to one organization, and each row says how it came about.
    lumen = Organization.objects.get(name="Lumen Labs")
    assert lumen.agreements.count() == 2
    assert lumen.agreements.values("customer").distinct().count() == 1
    assert Registration.objects.filter(claimed_at=None).count() == 0
    assert Membership.objects.filter(role=Membership.Role.OWNER).count() == 3
    assert Entitlement.objects.current().count() == 4
    assert Agreement.objects.get(organization__name="Harbor & Co").status == Agreement.Status.ENDING
    assert not MarketplaceEvent.objects.exclude(state=MarketplaceEvent.State.APPLIED).exists()
    assert set(MeteringRecord.objects.values_list("state", flat=True)) == {MeteringRecord.State.ACCEPTED}
    assert set(SubmissionLine.objects.values_list("status", flat=True)) == {"Success"}
    assert not Effect.objects.filter(state=Effect.State.DUE, due_at__lte=timezone.now()).exists()
    assert list(audit.verify()) == []
    tokens = list(aws.simulator.state.tokens)
    assert tokens
    assert not [token for token in tokens if token in caplog.text]

    told = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"agreement_created", "buyer_arrived", "claimed", "status_changed", "hours_closed"} <= told

    # An operator finds every step in admin.
    client.force_login(operator)
    for page, words in IN_ADMIN.items():
        text = client.get(f"/admin/{page}/").content.decode()
        assert [word for word in words if word not in text] == [], page
    agreement = Agreement.objects.get(organization__name="Northwind")
    page = client.get(f"/admin/billing/agreement/{agreement.pk}/change/").content.decode()
    for step in (agreement.license_id, "included_pages", "render:n-1", "License Updated", "claimed"):
        assert step in page, step

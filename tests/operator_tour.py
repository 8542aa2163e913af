"""The console's pages, in the world of tests/tour.py with an operator and something that needs one."""

from __future__ import annotations

from django.test import Client
from django.urls import reverse

from accounts.models import User
from billing.models import Agreement, MarketplaceEvent, MeteringRecord
from tests.tour import Stop, Tour


def add(tour: Tour, operator: User) -> None:
    client = Client()
    client.force_login(operator)
    tour.visitors["operator"] = client
    contract = Agreement.objects.filter(metering_records__isnull=False).earliest("pk")
    record = contract.metering_records.filter(state=MeteringRecord.State.ACCEPTED).latest("pk")
    pages = {
        "console-front-page": reverse("admin:index"),
        "console-agreements": reverse("admin:billing_agreement_changelist"),
        "console-agreement": reverse("admin:billing_agreement_change", args=[contract.pk]),
        "console-records": reverse("admin:billing_meteringrecord_changelist"),
        "console-record": reverse("admin:billing_meteringrecord_change", args=[record.pk]),
        "console-audit": reverse("admin:billing_auditevent_changelist"),
        "console-reconciliation": "/admin/billing/reconciliation/",
    }
    submitted = record.submission_lines.first()
    if submitted is not None:
        pages["console-submission"] = reverse(
            "admin:billing_submission_change", args=[submitted.submission_id]
        )
    event = MarketplaceEvent.objects.filter(agreement=contract).first()
    if event is not None:
        pages["console-event"] = reverse("admin:billing_marketplaceevent_change", args=[event.pk])
    tour.stops = [Stop(name, "operator", url) for name, url in pages.items()]

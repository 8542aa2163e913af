"""A page a buyer pays for: gated by an entitlement, billed by the page made. Replace it with your product."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext, ngettext

from accounts.access import TenantRequest, organization_required, workspace
from accounts.models import Organization
from billing import gates, usage
from billing.models import Agreement
from marketplace_saas.example.forms import RenderJob, RenderLogForm, ReportForm


@organization_required
@gates.requires("reports")
def reports(request: TenantRequest) -> HttpResponse:
    """Make a report. Its pages are recorded as usage; AWS bills them with the hour."""
    form = ReportForm(request.POST if request.method == "POST" else None)
    report = None
    if form.is_valid():
        try:
            _record(
                request.membership.organization,
                form.cleaned_data["pages"],
                key=f"report:{form.cleaned_data['request_key']}",
                team=form.cleaned_data["team"],
            )
        except usage.UsageRefused:
            form.add_error(
                None,
                gettext(
                    "This form was sent before with other content, which was counted. Load the page again to "
                    "make another report."
                ),
            )
        else:
            report = {name: form.cleaned_data[name] for name in ("title", "pages", "team")}
            report["counted"] = _counts_pages(request.membership.organization)
            form = ReportForm()
    return _page(request, form=form, report=report)


@organization_required
@gates.requires("reports")
def upload_log(request: TenantRequest) -> HttpResponse:
    """Take in a render machine's log, all of it or nothing. The same log again counts once."""
    if request.method != "POST":  # somebody reloads the address of a refused log
        return redirect("example:reports", request.membership.organization.slug)
    form = RenderLogForm(request.POST)
    if form.is_valid():
        try:
            with transaction.atomic():
                # In one order always, so that two logs with the same jobs never wait for each other.
                for job in sorted(form.cleaned_data["log"], key=lambda job: job.key):
                    _record_job(request.membership.organization, job)
        except RefusedLine as refused:
            form.add_error("log", str(refused))
        else:
            messages.success(request, _recorded(len(form.cleaned_data["log"])))
            return redirect("example:reports", request.membership.organization.slug)
    return _page(request, log_form=form)


def _recorded(jobs: int) -> str:
    return ngettext("%(jobs)d render job recorded.", "%(jobs)d render jobs recorded.", jobs) % {"jobs": jobs}


class RefusedLine(Exception):
    """A line of the log that is not usage; the text names the line."""


def _record_job(organization: Organization, job: RenderJob) -> None:
    try:
        _record(organization, job.pages, key=job.key, team=job.team, occurred_at=job.finished_at)
    except usage.UsageRefused as refused:
        raise RefusedLine(f"Line {job.line}: {refused}") from refused


def _counts_pages(organization: Organization) -> bool:
    """A plan with a flat price counts nothing."""
    return bool(usage.agreements_with(organization, "pages"))


def _record(
    organization: Organization,
    pages: Decimal | int,
    *,
    key: str,
    team: str,
    occurred_at: datetime | None = None,
) -> None:
    """Record pages. With several purchases that bill pages, the oldest one that was active then pays.

    A purchase and its renewal are one: while both are active, the renewal pays.
    """
    billing_pages = usage.agreements_with(organization, "pages")
    if not billing_pages:
        return
    instant = occurred_at or timezone.now()
    payers: list[Agreement] = [agreement for agreement in billing_pages if agreement.is_metered_at(instant)]
    renewed = {agreement.previous_id for agreement in payers}
    payers = [agreement for agreement in payers if agreement.pk not in renewed]
    tags = {"team": team} if team else {}
    usage.record(
        organization,
        "pages",
        pages,
        key=key,
        tags=tags,
        occurred_at=occurred_at,
        agreement=payers[-1] if payers else None,
    )


def _page(request: TenantRequest, **context: Any) -> HttpResponse:
    organization = request.membership.organization
    context = {
        "form": ReportForm(),
        "log_form": RenderLogForm(),
        **context,
        **workspace(request),
        "counts_pages": _counts_pages(organization),
        "quota": gates.quota(organization, "reports"),
        "events": organization.usage_events.select_related("dimension")[:20],
    }
    refused = any(context[name].errors for name in ("form", "log_form"))
    return render(request, "example/reports.html", context, status=422 if refused else 200)

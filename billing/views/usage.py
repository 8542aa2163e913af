"""What an organization used: as a chart, as a table, and as CSV."""

from __future__ import annotations

from django.http import HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import TenantRequest, organization_required, role_required, workspace
from accounts.models import Membership
from billing import (
    tenures,
    usage_choice,
    usage_drawing,
    usage_export,
    usage_periods,
    usage_report,
    usage_sums,
    usage_tags,
)
from billing.usage_report import Report


@organization_required
@role_required(*Membership.ADMINISTRATORS)
@require_safe
def usage(request: TenantRequest) -> HttpResponseBase:
    organization = request.membership.organization
    now, zone = timezone.now(), timezone.get_current_timezone()
    held = tenures.read(organization)
    meters = usage_sums.meters_of(held)
    if not meters:
        has_bought = organization.agreements.exists()
        return render(request, "billing/usage_none.html", {**workspace(request), "has_bought": has_bought})
    choice = usage_choice.choose(request.GET, meters, now=now, zone=zone)
    report = usage_report.read(choice, meters, held, now=now, zone=zone)
    if request.GET.get("format") == "csv":
        return _download(report, organization.slug)
    return render(
        request,
        "billing/usage.html",
        {
            **workspace(request),
            "meters": meters,
            "choice": choice,
            "periods": usage_periods.offered(now=now, zone=zone),
            "report": report,
            "drawn": usage_drawing.draw(report, zone=zone),
            "several": usage_drawing.purchases(meters, zone=zone),
            "others": [
                (choice.address(dimension=str(meter.pk)), meter, figures) for meter, figures in report.meters
            ],
            "by_hour": choice.address(by="hour") if choice.can_be_by_hour else "",
            "tag_prefix": usage_tags.AWS_PREFIX,
            "download": choice.address(format="csv"),
        },
    )


def _download(report: Report, slug: str) -> HttpResponseBase:
    choice = report.choice
    name = f"usage-{slug}-{choice.period.name}-by-{choice.grain}.csv"
    return StreamingHttpResponse(
        usage_export.lines(report),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )

"""What an organization used: as a chart, as a table, and as CSV."""

from __future__ import annotations

from django.http import HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import TenantRequest, organization_required, role_required, workspace
from accounts.models import Membership
from billing import tenures
from billing.usage_page import drawing, export, periods, sums, tags
from billing.usage_page import report as usage_report
from billing.usage_page.choice import choose
from billing.usage_page.report import Report


@organization_required
@role_required(*Membership.ADMINISTRATORS)
@require_safe
def usage(request: TenantRequest) -> HttpResponseBase:
    organization = request.membership.organization
    now, zone = timezone.now(), timezone.get_current_timezone()
    held = tenures.read(organization)
    meters = sums.meters_of(held)
    if not meters:
        has_bought = organization.agreements.exists()
        return render(request, "billing/usage_none.html", {**workspace(request), "has_bought": has_bought})
    choice = choose(request.GET, meters, now=now, zone=zone)
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
            "periods": periods.offered(now=now, zone=zone),
            "report": report,
            "drawn": drawing.draw(report, zone=zone),
            "several": drawing.purchases(meters, zone=zone),
            "others": [
                (choice.address(dimension=str(meter.pk)), meter, figures) for meter, figures in report.meters
            ],
            "by_hour": choice.address(by="hour") if choice.can_be_by_hour else "",
            "tag_prefix": tags.AWS_PREFIX,
            "download": choice.address(format="csv"),
        },
    )


def _download(report: Report, slug: str) -> HttpResponseBase:
    choice = report.choice
    name = f"usage-{slug}-{choice.period.name}-by-{choice.grain}.csv"
    return StreamingHttpResponse(
        export.lines(report),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )

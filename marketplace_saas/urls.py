"""Every URL of the site."""

from django.conf import settings
from django.urls import include, path

from billing.admin.site import admin_site
from marketplace_saas import outbox, views

urlpatterns = [
    path("", views.home, name="home"),
    path("", include("accounts.urls")),
    path("", include("billing.urls")),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin_site.urls),
    path("o/<slug:slug>/reports/", include("marketplace_saas.example.urls")),  # the example product
]

handler500 = views.server_error

if settings.DEBUG:
    urlpatterns.append(path("outbox/", include(outbox.urlpatterns)))

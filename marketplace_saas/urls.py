"""Every URL of the site."""

from django.conf import settings
from django.urls import include, path

from billing.admin.site import admin_site
from marketplace_saas import health, mail_preview, outbox, views

urlpatterns = [
    path("", views.home, name="home"),
    path("", include("accounts.urls")),
    path("", include("billing.urls")),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin_site.urls),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("status", health.status, name="status"),
    path("o/<slug:slug>/reports/", include("marketplace_saas.example.urls")),  # the example product
]

handler400 = views.bad_request
handler500 = views.server_error

if settings.DEBUG:
    urlpatterns += [
        path("outbox/", include(outbox.urlpatterns)),
        path("mails/", include(mail_preview.urlpatterns)),
    ]

"""What every template may show of the site itself."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, Any]:
    return {
        "site_name": settings.SITE_NAME,
        "support_email": settings.SUPPORT_EMAIL,
        "listing_url": settings.MARKETPLACE_LISTING_URL,
        "outbox_exists": settings.DEBUG,
    }

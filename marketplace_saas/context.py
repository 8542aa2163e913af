"""What every template may show of the site itself."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from marketplace_saas.request_id import current


def site(request: HttpRequest) -> dict[str, Any]:
    return {
        "site_name": settings.SITE_NAME,
        "support_email": settings.SUPPORT_EMAIL,
        "listing_url": settings.MARKETPLACE_LISTING_URL,
        "terms_url": settings.TERMS_URL,
        "privacy_url": settings.PRIVACY_URL,
        "languages": settings.LANGUAGES,
        "request_id": current(),
        "outbox_exists": settings.DEBUG,
    }

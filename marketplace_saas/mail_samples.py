"""What the previews of mails say: everything that any template asks for, of people who do not exist."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from django.conf import settings

from billing.models import Agreement, MarketplaceCustomer, Product

_NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
_DAY = timedelta(days=1)
_SITE = settings.SITE_URL
_WORKSPACE = f"{_SITE}/o/globex/"


def _agreement(**fields: Any) -> Agreement:
    """One that is in no database."""
    usual = {
        "product": Product(title="Reports Flex"),
        "customer": MarketplaceCustomer(aws_account_id="123456789012"),
        "agreement_id": "agmt-6v4mb2nzkq5a8e9c1d3f7h2j4",
        "license_id": "l-0123456789abcdef0123456789abcdef",
        "offer_id": "offer-abcdefghijklm",
        "status": Agreement.Status.ACTIVE,
        "activated_at": _NOW,
        "trial_ends_at": _NOW + 14 * _DAY,
        "ended_at": _NOW,
        "metering_closes_at": _NOW + timedelta(hours=1),
        "end_reason": "EXPIRED",
    }
    return Agreement(**usual | fields)


SAMPLE: dict[str, Any] = {
    # Of a purchase
    "agreement": _agreement(),
    "customer": MarketplaceCustomer(aws_account_id="123456789012"),
    "product": "Reports Flex",
    "organization": "Globex <R&D>",
    "account": "•••• •••• 9012",
    "is_active": True,
    "continues_another": False,
    "is_first_turn": True,
    "is_on_trial": False,
    "is_metered": True,
    "is_all_reported": True,
    "has_arrived": False,
    "expires_at": _NOW + 7 * _DAY,
    "date": _NOW + 7 * _DAY,
    "days_left": 7,
    "entitlements": [
        SimpleNamespace(dimension_key="included_pages", value=10_000, expires_at=_NOW + 365 * _DAY),
        SimpleNamespace(dimension_key="seats", value=25, expires_at=None),
    ],
    "workspace_url": _WORKSPACE,
    "subscription_url": f"{_WORKSPACE}subscription/",
    "requests_url": f"{_WORKSPACE}requests/",
    "welcome_url": f"{_SITE}/marketplace/welcome/",
    "console_url": f"{_SITE}/admin/billing/agreement/1/change/",
    # Of people and a workspace
    "inviter": "Robin Roe",
    "inviter_email": "robin@globex.example",
    "role": "member",
    "url": f"{_SITE}/invitations/3h7s-9dk2/",
    "asker": "Jamie Doe",
    "asker_email": "jamie@globex.example",
    "is_attached": True,
    "request": SimpleNamespace(is_approved=True),
    # Of an account
    "email": "jamie@globex.example",
    "code": "K7P-WMX",
    "login_url": f"{_SITE}/accounts/login/",
    "signup_url": f"{_SITE}/accounts/signup/",
    "password_reset_url": f"{_SITE}/accounts/password/reset/",
    "timestamp": _NOW,
    "ip": "203.0.113.7",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0",
    "from_email": "jamie@globex.example",
    "to_email": "jamie.doe@globex.example",
    "deleted_email": "jamie@old.example",
    "provider": "GitHub",
}

_ENDINGS: dict[str, dict[str, Any]] = {
    reason.lower() or "unknown": {"agreement": _agreement(end_reason=reason)}
    for reason in ("CANCELLED", "UNSUBSCRIBED", "TERMINATED", "GONE", "")
}
_TRIALS: dict[str, dict[str, Any]] = {
    "trial": {"is_on_trial": True},
    "trial of unknown length": {"is_on_trial": True, "agreement": _agreement(trial_ends_at=None)},
}
_CONTINUED: dict[str, dict[str, Any]] = {"continued": {"continues_another": True}}
_NOT_METERED: dict[str, dict[str, Any]] = {"not metered": {"is_metered": False}}
_LAST_DAY: dict[str, dict[str, Any]] = {"last day": {"days_left": 1}}
_UNCLAIMED: dict[str, dict[str, Any]] = {"no workspace": {"organization": ""}}

# Template -> case -> what is otherwise than in SAMPLE.
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "emails/invitation": {
        "admin": {"role": "admin"},
        "inviter without a name": {"inviter": "robin@globex.example"},
    },
    "emails/buyer_welcome": {"not confirmed": {"is_active": False, "account": ""}, **_TRIALS},
    "emails/buyer_activated": {"again": {"is_first_turn": False}, **_CONTINUED, **_TRIALS},
    "emails/buyer_contract_expires": {
        **_LAST_DAY,
        "renewal off": {"agreement": _agreement(auto_renews=False)},
    },
    "emails/buyer_trial_ends": _LAST_DAY,
    "emails/buyer_ending": {**_ENDINGS, **_NOT_METERED},
    "emails/buyer_ended": {**_ENDINGS, **_NOT_METERED, "not all reported": {"is_all_reported": False}},
    "emails/buyer_unfinished": {"not confirmed": {"is_active": False}},
    "emails/buyer_join_requested": {
        "no name": {"asker": ""},
        "not attached": {"is_attached": False},
        "account unknown": {"account": ""},
    },
    "emails/buyer_join_answered": {
        "refused": {"request": SimpleNamespace(is_approved=False)},
        "not attached": {"is_attached": False},
    },
    "emails/buyer_failed": {"cancelled": {"agreement": _agreement(end_reason="CANCELLED")}},
    "emails/seller_new": {**_CONTINUED, **_TRIALS, **_UNCLAIMED},
    "emails/seller_changed": {"nothing left": {"entitlements": []}},
    "emails/seller_ended": {
        **_ENDINGS,
        **_NOT_METERED,
        "usage on its way": {"agreement": _agreement(status=Agreement.Status.ENDING)},
        "not all reported": {"is_all_reported": False},
    },
    "emails/seller_never_registered": {
        **_UNCLAIMED,
        **_CONTINUED,
        "came": {"has_arrived": True},
        "not confirmed": {"is_active": False},
    },
}

"""In a buyer's words: how a purchase stands, what it is, and why it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _

from billing.models import Agreement, Product

Status = Agreement.Status
Pricing = Product.Pricing

STATUS: Mapping[str, Any] = {
    Status.PENDING: _("Being confirmed by AWS"),
    Status.ACTIVE: _("Active"),
    Status.ENDING: _("Being closed"),
    Status.ENDED: _("Ended"),
    Status.FAILED: _("Payment failed"),
}
TONE: Mapping[str, str] = {
    Status.PENDING: "warning",
    Status.ACTIVE: "success",
    Status.ENDING: "warning",
    Status.ENDED: "",
    Status.FAILED: "danger",
}
PRICING: Mapping[str, Any] = {
    Pricing.SUBSCRIPTION: _("Pay as you go"),
    Pricing.CONTRACT: _("Contract"),
    Pricing.CONTRACT_WITH_CONSUMPTION: _("Contract, and pay as you go beyond it"),
}
_WHY_ENDED: Mapping[str, Any] = {
    "CANCELLED": _("It was cancelled in AWS Marketplace."),
    Agreement.UNSUBSCRIBED: _("It was cancelled in AWS Marketplace."),
    "EXPIRED": _("Its term was over, and it was not renewed."),
    "TERMINATED": _(
        "AWS ended it. If you do not know why, check the payment methods of your AWS account, or ask AWS "
        "Support."
    ),
    "RENEWED": _("It was renewed. Everything goes on under the next one."),
    "REPLACED": _("It was replaced. Everything goes on under the next one."),
    Agreement.GONE: _("AWS lists no entitlements for it any more."),
}


def why_ended(agreement: Agreement) -> Any:
    """A sentence; empty where AWS has given no reason, or it has not ended."""
    return _WHY_ENDED.get(agreement.end_reason, "") if agreement.ended_at is not None else ""

"""Who bought, and what: AWS accounts, agreements with all that hangs on them, arrivals."""

from __future__ import annotations

from datetime import datetime

from django.contrib import admin
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime

from billing.admin import panels_of
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import PURCHASE, badge, bought, linked, list_url, purchase, text, when
from billing.admin.panels import Panel
from billing.admin.site import admin_site
from billing.admin.tones import AGREEMENT_STATUS
from billing.models import Agreement, MarketplaceCustomer, Registration


@admin.register(MarketplaceCustomer, site=admin_site)
class MarketplaceCustomerAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "aws_account_id", "customer_identifier", when("created_at"))
    list_filter = ("created_at",)
    search_fields = ("aws_account_id__exact", "customer_identifier__exact")
    search_help_text = "AWS account or legacy customer identifier"
    sections = {
        "": ("aws_account_id", "customer_identifier", when("created_at")),
    }

    def panels(self, request: HttpRequest, row: MarketplaceCustomer) -> list[Panel]:
        return [panels_of.agreements(row.agreements.all(), more=list_url(Agreement, customer=row.pk))]


def _asked_for(request: HttpRequest) -> datetime | None:
    """The instant before which the history is asked for; None: all of it, or what is no instant."""
    try:
        asked = parse_datetime(request.GET.get("before", ""))
    except ValueError:
        return None
    return asked if asked is not None and asked.tzinfo is not None else None


@admin.display(description="agreement")
def _purchase(row: Agreement) -> str:
    return purchase(row)


@admin.register(Agreement, site=admin_site)
class AgreementAdmin(ReadOnlyAdmin):
    list_display = (
        _purchase,
        linked("customer", "AWS account"),
        badge("status", AGREEMENT_STATUS),
        when("activated_at", "active from"),
        when("ended_at", "ended"),
        when("metering_closes_at", "metering closes"),
        when("flagged_at", "flagged"),
    )
    list_select_related = PURCHASE
    list_filter = (
        "status",
        "product",
        "identity",
        ("organization", admin.EmptyFieldListFilter),
        ("flagged_at", admin.EmptyFieldListFilter),
        "created_at",
        "ended_at",
    )
    search_agreement = "pk"
    search_fields = ("license_id__exact", "agreement_id__exact")
    search_help_text = "AWS account, license, agreement id, or a member's e-mail"
    sections = {
        "": (
            ("status", linked("organization")),
            ("flag_reason", when("flagged_at")),
            (text("end_reason", "why it ended"), when("access_until", "access until")),
            when("advisory_issued_at", "AWS warned of the buyer"),
            (linked("product"), linked("customer", "AWS account")),
            (when("created_at", "first heard of"), when("claimed_at", "claimed")),
        ),
        "At AWS": (
            (text("license_id", "license"), text("agreement_id", "agreement id")),
            text("license_arn", "license ARN"),
            ("identity", text("offer_id", "offer")),
        ),
        "Renewal": (
            ("intent", "auto_renews"),
            (
                text("previous_agreement_id", "continues agreement id"),
                text("initial_agreement_id", "first of its chain"),
            ),
            (linked("previous", "continues"), linked("successor", "continued by")),
        ),
        "Life": (
            (when("activated_at", "active from"), when("ended_at", "ended")),
            (when("term_starts_at"), when("term_ends_at")),
            ("free_trial", when("trial_ends_at")),
            (when("metering_closes_at"), when("entitlements_read_at", "entitlements last read")),
        ),
    }

    def panels(self, request: HttpRequest, row: Agreement) -> list[Panel]:
        return panels_of.whole_history(row, before=_asked_for(request))


@admin.register(Registration, site=admin_site)
class RegistrationAdmin(ReadOnlyAdmin):
    list_display = (
        when("created_at", "arrived"),
        bought(),
        linked("user"),
        when("claimed_at", "claimed"),
        when("expires_at", "expires"),
    )
    list_select_related = ("agreement__product", "agreement__customer", "agreement__organization", "user")
    list_filter = (("claimed_at", admin.EmptyFieldListFilter), "created_at")
    search_agreement = "agreement"
    search_fields = ("digest__exact", "user__email__exact")
    search_help_text = "AWS account, license, agreement id, e-mail, or the token's SHA-256"
    sections = {
        "": (
            (bought(), linked("user")),
            (when("created_at", "arrived"), when("claimed_at", "claimed")),
            (when("expires_at", "expires"), "free_trial_hint"),
            "digest",
        ),
    }

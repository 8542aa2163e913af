"""Who bought, and what: AWS accounts, agreements with all that hangs on them, arrivals."""

from __future__ import annotations

from django.contrib import admin

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

    def panels(self, row: MarketplaceCustomer) -> list[Panel]:
        return [panels_of.agreements(row.agreements.all(), more=list_url(Agreement, customer=row.pk))]


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
            (linked("product"), linked("customer", "AWS account")),
            (when("created_at", "first heard of"), when("claimed_at", "claimed")),
        ),
        "At AWS": (
            (text("license_id", "license"), text("agreement_id", "agreement id")),
            text("license_arn", "license ARN"),
            ("identity", text("offer_id", "offer")),
            (linked("previous"), linked("successor")),
        ),
        "Life": (
            (when("activated_at", "active from"), when("ended_at", "ended")),
            (when("term_starts_at"), when("term_ends_at")),
            (when("trial_ends_at"), when("metering_closes_at")),
            when("entitlements_read_at", "entitlements last read"),
        ),
    }

    def panels(self, row: Agreement) -> list[Panel]:
        return panels_of.whole_history(row)


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

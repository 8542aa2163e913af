"""Who bought, and what: AWS accounts, agreements with all that hangs on them, arrivals."""

from __future__ import annotations

from datetime import datetime

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from billing.admin import agreement_page, panels_of, search
from billing.admin.actions.attached import WithRepairs
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import (
    PURCHASE,
    badge,
    bought,
    choice,
    linked,
    list_url,
    purchase,
    text,
    when,
    yes_no,
)
from billing.admin.filters import Between
from billing.admin.panels import Panel
from billing.admin.site import admin_site
from billing.admin.tones import AGREEMENT_STATUS
from billing.models import Agreement, AgreementMove, JoinRequest, MarketplaceCustomer, Registration


@admin.register(MarketplaceCustomer, site=admin_site)
class MarketplaceCustomerAdmin(ReadOnlyAdmin):
    list_display = (
        "__str__",
        text("aws_account_id", _("AWS account")),
        text("customer_identifier", _("legacy customer identifier")),
        when("created_at", _("created at")),
    )
    list_filter = (("created_at", Between),)
    search_fields = ("aws_account_id__exact", "customer_identifier__exact")
    search_help_text = _(
        "AWS account, legacy customer identifier, license, agreement id, organization or e-mail"
    )
    sections = {
        "": (
            text("aws_account_id", _("AWS account")),
            text("customer_identifier", _("legacy customer identifier")),
            when("created_at", _("created at")),
        ),
    }

    def search_by(self, term: str) -> Q:
        bought_by = Agreement.objects.filter(pk__in=search.agreements(term)).values_list(
            "customer", flat=True
        )
        return Q(pk__in=list(bought_by))

    def panels(self, request: HttpRequest, row: MarketplaceCustomer) -> list[Panel]:
        return [panels_of.agreements(row.agreements.all(), more=list_url(Agreement, customer=row.pk))]


def _asked_for(request: HttpRequest, name: str) -> datetime | None:
    """The instant that a link asks for; None: none, or what is no instant."""
    try:
        asked = parse_datetime(request.GET.get(name, ""))
    except ValueError:
        return None
    return asked if asked is not None and asked.tzinfo is not None else None


@admin.display(description=_("agreement"))
def _purchase(row: Agreement) -> str:
    return purchase(row)


@admin.register(Agreement, site=admin_site)
class AgreementAdmin(WithRepairs, ReadOnlyAdmin):  # type: ignore[misc]  # unfold's own mixins differ
    repairs = ("sync_entitlements", "resend_welcome", "transfer", "link_renewal", "settle_flag")
    list_display = (
        _purchase,
        linked("customer", _("AWS account")),
        badge("status", AGREEMENT_STATUS, _("status")),
        when("activated_at", _("active from")),
        when("ended_at", _("ended")),
        when("metering_closes_at", _("metering closes")),
        when("flagged_at", _("flagged")),
    )
    list_select_related = PURCHASE
    list_filter = (
        "status",
        "product",
        "identity",
        ("organization", admin.EmptyFieldListFilter),
        ("flagged_at", admin.EmptyFieldListFilter),
        ("created_at", Between),
        ("ended_at", Between),
    )
    search_agreement = "pk"
    export_more = ("product__code", "customer__aws_account_id", "organization__name")
    search_fields = ("license_id__exact", "agreement_id__exact")
    search_help_text = _("AWS account, license, agreement id, organization or e-mail")
    sections = {
        "": (
            (choice("status", _("status")), linked("organization", _("organization"))),
            (text("flag_reason", _("flagged because")), when("flagged_at", _("flagged at"))),
            (text("end_reason", _("why it ended")), when("access_until", _("access until"))),
            when("advisory_issued_at", _("AWS warned of the buyer")),
            (linked("product", _("product")), linked("customer", _("AWS account"))),
            (when("created_at", _("first heard of")), when("claimed_at", _("claimed"))),
        ),
        _("At AWS"): (
            (text("license_id", _("license")), text("agreement_id", _("agreement id"))),
            text("license_arn", _("license ARN")),
            (choice("identity", _("identity")), text("offer_id", _("offer"))),
        ),
        _("Renewal"): (
            (choice("intent", _("intent")), yes_no("auto_renews", _("renews by itself"))),
            (
                text("previous_agreement_id", _("continues agreement id")),
                text("initial_agreement_id", _("first of its chain")),
            ),
            (linked("previous", _("continues")), linked("successor", _("continued by"))),
        ),
        _("Life"): (
            (when("activated_at", _("active from")), when("ended_at", _("ended"))),
            (when("term_starts_at", _("term starts at")), when("term_ends_at", _("term ends at"))),
            (yes_no("free_trial", _("free trial")), when("trial_ends_at", _("trial ends at"))),
            (
                when("metering_closes_at", _("metering closes at")),
                when("entitlements_read_at", _("entitlements last read")),
            ),
        ),
    }

    def panels(self, request: HttpRequest, row: Agreement) -> list[Panel]:
        return agreement_page.panels(
            row, before=_asked_for(request, "before"), until=_asked_for(request, "until")
        )


@admin.register(Registration, site=admin_site)
class RegistrationAdmin(ReadOnlyAdmin):
    list_display = (
        when("created_at", _("arrived")),
        bought(),
        linked("user", _("user")),
        when("claimed_at", _("claimed")),
        when("expires_at", _("expires")),
    )
    list_select_related = ("agreement__product", "agreement__customer", "agreement__organization", "user")
    export_fields = ("id", "agreement_id", "user_id", "created_at", "expires_at", "claimed_at")
    list_filter = (("claimed_at", admin.EmptyFieldListFilter), ("created_at", Between))
    search_agreement = "agreement"
    search_fields = ("digest__exact", "user__email__exact")
    search_help_text = _("AWS account, license, agreement id, organization, e-mail, or the token's SHA-256")
    sections = {
        "": (
            (bought(), linked("user", _("user"))),
            (when("created_at", _("arrived")), when("claimed_at", _("claimed"))),
            (
                when("expires_at", _("expires")),
                yes_no("free_trial_hint", _("the buyer came for a free trial")),
            ),
            text("digest", _("SHA-256 of the token")),
        ),
        _("Answers to your questions"): ("answers",),
    }


@admin.register(JoinRequest, site=admin_site)
class JoinRequestAdmin(ReadOnlyAdmin):
    """Answered by the workspace's own people: here they are seen."""

    list_display = (
        when("created_at", _("asked")),
        linked("user", _("user")),
        linked("organization", _("organization")),
        bought("registration__agreement"),
        yes_no("is_approved", _("approved")),
        when("answered_at", _("answered")),
    )
    list_select_related = (
        "user",
        "organization",
        *(f"registration__agreement__{name}" for name in PURCHASE),
    )
    list_filter = ("is_approved", ("created_at", Between))
    search_agreement = "registration__agreement"
    search_fields = ("user__email__exact", "organization__slug__exact")
    search_help_text = _("AWS account, license, agreement id, organization or e-mail")
    sections = {
        "": (
            (linked("user", _("user")), linked("organization", _("organization"))),
            (bought("registration__agreement"), linked("registration", _("arrival"))),
            (when("created_at", _("asked")), yes_no("is_approved", _("approved"))),
            (when("answered_at", _("answered")), linked("answered_by", _("answered by"))),
        ),
    }


@admin.register(AgreementMove, site=admin_site)
class AgreementMoveAdmin(ReadOnlyAdmin):
    """What was used until then is the old workspace's to see; why it was moved is in the audit trail."""

    list_display = (
        when("moved_at", _("moved")),
        bought(),
        linked("from_organization", _("from workspace")),
        linked("to_organization", _("to workspace")),
        linked("moved_by", _("moved by")),
    )
    list_select_related = (
        "from_organization",
        "to_organization",
        "moved_by",
        *(f"agreement__{name}" for name in PURCHASE),
    )
    export_fields = (
        "id",
        "agreement_id",
        "from_organization_id",
        "to_organization_id",
        "moved_at",
        "moved_by_id",
    )
    list_filter = (("moved_at", Between),)
    search_agreement = "agreement"
    search_fields = ("from_organization__slug__exact", "to_organization__slug__exact")
    search_help_text = _("AWS account, license, agreement id, organization or e-mail")
    sections = {
        "": (
            (bought(), when("moved_at", _("moved"))),
            (linked("from_organization", _("from workspace")), linked("to_organization", _("to workspace"))),
            linked("moved_by", _("moved by")),
        ),
    }

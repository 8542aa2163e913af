"""AWS's usage reports as they were imported, and their lines."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.admin import panels as panels_module
from billing.admin.base import ReadOnlyAdmin
from billing.admin.columns import (
    EMPTY,
    bought,
    label,
    link,
    linked,
    list_url,
    plain,
    quantity,
    text,
    when,
    yes_no,
)
from billing.admin.filters import Between, OfProduct
from billing.admin.panels import Panel
from billing.admin.reconciliation import access
from billing.admin.site import admin_site
from billing.models import UsageReport, UsageReportLine
from billing.reconciliation.months import Month, Scope


@admin.display(description=gettext_lazy("by"))
def _by(row: UsageReport) -> str:
    return link(row.imported_by) if row.imported_by else _("A command on the server")


@admin.display(description=gettext_lazy("days"))
def _days(row: UsageReport) -> str:
    return f"{row.first_day:%Y-%m-%d} – {row.last_day:%Y-%m-%d}"


@admin.register(UsageReport, site=admin_site)
class UsageReportAdmin(ReadOnlyAdmin):
    list_display = (
        "name",
        _days,
        "line_count",
        when("imported_at", gettext_lazy("imported at")),
        _by,
    )
    list_select_related = ("imported_by",)
    list_filter = (("imported_at", Between),)
    search_fields = ("digest__exact", "name__exact")
    search_help_text = gettext_lazy("The file's name, its digest, or its number")
    sections = {
        "": (
            ("name", _days),
            ("line_count", "size"),
            (when("imported_at", gettext_lazy("imported at")), _by),
            yes_no("is_feed", gettext_lazy("tells changes only")),
            "digest",
        ),
    }

    def panels(self, request: HttpRequest, row: UsageReport) -> list[Panel]:
        month = Scope(Month(row.last_day.year, row.last_day.month))
        columns = {
            _("Line"): lambda line: link(line, str(line.number)),
            _("Day"): lambda line: f"{line.day:%Y-%m-%d}",
            _("Dimension"): lambda line: line.dimension_key,
            _("AWS account"): lambda line: line.account or EMPTY,
            _("Quantity"): lambda line: plain(line.quantity),
            _("Counts"): _standing,
        }
        lines = row.lines.order_by("number").select_related("replaced_by")
        told = panels_module.panel(
            _("Its lines"), lines, columns, more=list_url(UsageReportLine, report=row.pk)
        )
        here = Panel(_("Reconciliation"), None, access.url(month), _("The month beside the ledger"))
        return [here, told]


@admin.display(description=gettext_lazy("counts"))
def _standing(row: UsageReportLine) -> str:
    """Whether it is what AWS says now."""
    if row.replaced_by_id is None:
        return label(_("Yes"), "success")
    return label(_("Replaced by a newer report"))


@admin.register(UsageReportLine, site=admin_site)
class UsageReportLineAdmin(ReadOnlyAdmin):
    list_display = (
        "day",
        when("hour", gettext_lazy("hour (UTC)")),
        bought(),
        text("account", gettext_lazy("AWS account")),
        text("product_code", gettext_lazy("product code")),
        text("dimension_key", gettext_lazy("dimension")),
        quantity("quantity", gettext_lazy("billed")),
        _standing,
    )
    list_select_related = ("agreement__product", "agreement__customer", "agreement__organization")
    list_filter = (
        ("agreement", admin.EmptyFieldListFilter),
        ("dimension", admin.EmptyFieldListFilter),
        ("replaced_by", admin.EmptyFieldListFilter),
        OfProduct,
        ("day", Between),
    )
    search_agreement = "agreement"
    search_help_text = gettext_lazy("AWS account, license, agreement id, organization, e-mail, or number")
    ordering = ("-day", "-pk")
    sections = {
        "": (
            (text("day", gettext_lazy("day")), when("hour", gettext_lazy("hour (UTC)"))),
            (quantity("quantity", gettext_lazy("billed")), _standing),
            (bought(), linked("dimension", gettext_lazy("dimension"))),
            (linked("report", gettext_lazy("report")), text("number", gettext_lazy("line of the file"))),
            linked("replaced_by", gettext_lazy("replaced by")),
        ),
        gettext_lazy("As AWS told it"): (
            (text("product_code", gettext_lazy("product code")), text("region", gettext_lazy("Region"))),
            (
                text("account", gettext_lazy("AWS account")),
                text("agreement_number", gettext_lazy("AWS agreement id")),
            ),
            (
                text("license_id", gettext_lazy("license")),
                text("dimension_key", gettext_lazy("dimension")),
            ),
        ),
    }

    def search_by(self, term: str) -> Q:
        # What is no purchase's: a small index has it.
        return Q(Q(account=term) | Q(agreement_number=term), agreement=None, replaced_by=None)

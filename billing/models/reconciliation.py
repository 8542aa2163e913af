"""What AWS says that it billed, as its usage reports were imported."""

from __future__ import annotations

from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from billing.models.catalog import Dimension, Product
from billing.models.customers import Agreement
from billing.models.fields import QuantityField


class UsageReport(models.Model):
    """One imported file. ``digest`` is that of its rows: the same rows in any order are one report."""

    digest = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=255)
    size = models.PositiveBigIntegerField()  # of the file, in bytes
    line_count = models.PositiveIntegerField()
    first_day = models.DateField()
    last_day = models.DateField()
    # It tells changes by line (AWS's data subscription), not all of its days anew.
    is_feed = models.BooleanField(default=False)
    # [product code, first day, last day]: what it tells of.
    covers = models.JSONField(default=list)
    imported_at = models.DateTimeField(default=timezone.now, editable=False)
    # Null: by a command on the server.
    imported_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="usage_reports"
    )

    class Meta:
        verbose_name = _("usage report of AWS")
        verbose_name_plural = _("usage reports of AWS")
        ordering = ["-pk"]
        permissions = [("import_usagereport", _("May import AWS's usage reports"))]
        constraints = [
            models.CheckConstraint(
                condition=Q(first_day__lte=models.F("last_day")), name="usage_report_days_in_order"
            ),
        ]
        indexes = [models.Index(fields=["last_day"], name="usage_report_until")]

    def __str__(self) -> str:
        return f"{self.name} ({self.first_day:%Y-%m-%d} – {self.last_day:%Y-%m-%d})"


class UsageReportLineQuerySet(models.QuerySet["UsageReportLine"]):
    def current(self) -> Self:
        """What AWS says now: no newer report has told it anew."""
        return self.filter(replaced_by=None)


class UsageReportLine(models.Model):
    """A row of a report: what AWS billed of a dimension to a buyer on a day, or in an hour.

    Its agreement and dimension are those of ours that it names; null where it names none.
    """

    report = models.ForeignKey(UsageReport, models.PROTECT, related_name="lines", db_index=False)
    number = models.PositiveIntegerField()  # its line in the file
    key = models.CharField(max_length=64)  # what it tells of: one current line each
    product_code = models.CharField(max_length=255)
    account = models.CharField(max_length=255, blank=True)
    agreement_number = models.CharField(max_length=64, blank=True)  # AWS's agreement id
    license_id = models.CharField(max_length=255, blank=True)
    dimension_key = models.CharField(max_length=255)
    region = models.CharField(max_length=30, blank=True)
    day = models.DateField()
    hour = models.DateTimeField(null=True)  # AWS tells days only
    quantity = QuantityField()
    modified_at = models.DateTimeField(null=True)  # in a feed: the newest row of a line stands

    product = models.ForeignKey(Product, models.PROTECT, null=True, related_name="+")
    agreement = models.ForeignKey(
        Agreement, models.PROTECT, null=True, related_name="report_lines", db_index=False
    )
    dimension = models.ForeignKey(Dimension, models.PROTECT, null=True, related_name="+", db_index=False)
    replaced_by = models.ForeignKey(
        UsageReport, models.PROTECT, null=True, related_name="replaced_lines", db_index=False
    )

    objects = UsageReportLineQuerySet.as_manager()

    class Meta:
        verbose_name = _("line of AWS's usage report")
        verbose_name_plural = _("lines of AWS's usage reports")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["report", "number"], name="usage_report_line_once_per_report"),
            models.UniqueConstraint(
                fields=["key"], condition=Q(replaced_by=None), name="usage_report_line_told_once"
            ),
        ]
        indexes = [
            models.Index(
                fields=["day", "dimension"], condition=Q(replaced_by=None), name="usage_report_line_of_day"
            ),
            models.Index(
                fields=["agreement", "day"],
                condition=Q(replaced_by=None),
                name="usage_report_line_of_purchase",
            ),
            # Few: what nobody could tell to whom it belongs.
            models.Index(
                fields=["day"],
                condition=Q(replaced_by=None) & (Q(agreement=None) | Q(dimension=None)),
                name="usage_report_line_unmatched",
            ),
            models.Index(
                fields=["replaced_by"],
                condition=Q(replaced_by__isnull=False),
                name="usage_report_line_replaced",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity.normalize():f} {self.dimension_key} ({self.day:%Y-%m-%d})"

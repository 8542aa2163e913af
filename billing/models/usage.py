"""What was used."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from billing.models.catalog import Dimension
from billing.models.customers import Agreement
from billing.models.fields import QuantityField
from billing.models.metering import MeteringRecord


class UsageEventQuerySet(models.QuerySet["UsageEvent"]):
    def open(self) -> Self:
        """Billable, and in no metering record yet."""
        return self.filter(metering_record=None, disposition=UsageEvent.Disposition.BILLABLE)


class UsageEvent(models.Model):
    """Something the buyer used. Written by billing.usage; later only its record and disposition change."""

    class Disposition(models.TextChoices):
        BILLABLE = "billable", _("Billable")
        TOO_LATE = "too_late", _("Too late for AWS")
        OUTSIDE_AGREEMENT = "outside_agreement", _("Outside the agreement")
        CANCELLED = "cancelled", _("Cancelled")
        WRITTEN_OFF = "written_off", _("Written off")

    # The organization at the time: the agreement may move, the usage was theirs.
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="usage_events")
    agreement = models.ForeignKey(Agreement, models.PROTECT, related_name="usage_events")
    dimension = models.ForeignKey(Dimension, models.PROTECT, related_name="usage_events")
    quantity = QuantityField()
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField(default=timezone.now, editable=False)
    # The product's own name for this use: the same key twice is the same use.
    key = models.CharField(max_length=200)
    tags = models.JSONField(default=dict)
    disposition = models.CharField(max_length=20, choices=Disposition, default=Disposition.BILLABLE)
    # Null while open: the hour is not closed.
    metering_record = models.ForeignKey(
        MeteringRecord, models.PROTECT, null=True, related_name="usage_events"
    )

    objects = UsageEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("usage event")
        verbose_name_plural = _("usage events")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "key"], name="usage_event_counted_once"),
            models.CheckConstraint(condition=Q(quantity__gte=0), name="usage_event_quantity_not_negative"),
            models.CheckConstraint(
                condition=Q(
                    disposition__in=["billable", "too_late", "outside_agreement", "cancelled", "written_off"]
                ),
                name="usage_event_disposition_known",
            ),
            models.CheckConstraint(
                condition=Q(metering_record=None) | Q(disposition="billable"),
                name="usage_event_only_billable_is_metered",
            ),
        ]
        indexes = [
            # Closing looks for open usage by hour.
            models.Index(
                fields=["agreement", "dimension", "occurred_at"],
                condition=Q(metering_record=None, disposition="billable"),
                name="usage_event_open",
            ),
            # And for usage outside its agreement that turns out to be inside.
            models.Index(
                fields=["agreement", "occurred_at"],
                condition=Q(disposition="outside_agreement"),
                name="usage_event_outside",
            ),
            # A buyer's usage page tells what is not billed, and why. Hardly any event is in it.
            models.Index(
                fields=["agreement", "occurred_at"],
                condition=~Q(disposition="billable"),
                name="usage_event_not_billed",
            ),
            # Operators look at what was used when, over all agreements. Measured: inserting and closing take
            # as long as without it.
            models.Index(fields=["occurred_at", "id"], name="usage_event_of_time"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity.normalize():f} ({self.key})"

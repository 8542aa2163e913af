"""What stands for usage that left the database: a file, its sums by day, and the key of each use."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from billing.models.catalog import Dimension
from billing.models.customers import Agreement
from billing.models.fields import QuantityField
from billing.models.usage import UsageEvent


class UsageArchive(models.Model):
    """A file of settled uses of one agreement and month. A month may have several."""

    agreement = models.ForeignKey(Agreement, models.PROTECT, related_name="usage_archives")
    month = models.DateField()  # its first day
    name = models.CharField(max_length=200, unique=True)  # below USAGE_ARCHIVE_DIR
    sha256 = models.CharField(max_length=64)  # of the file as it lies there, compressed
    size = models.PositiveBigIntegerField()  # in bytes
    event_count = models.PositiveBigIntegerField()
    made_at = models.DateTimeField()

    class Meta:
        verbose_name = _("archive of usage")
        verbose_name_plural = _("archives of usage")
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.name


class UsageArchiveTotal(models.Model):
    """What the archived uses of a day add up to: those in metering records, and each other disposition.

    Of what is in a record AWS's hour counts, in which it was billed; else the instant of use. Days are UTC.
    """

    archive = models.ForeignKey(UsageArchive, models.PROTECT, related_name="totals", db_index=False)
    # The archive's own, once more: sums are read by it.
    agreement = models.ForeignKey(Agreement, models.PROTECT, related_name="archived_totals", db_index=False)
    # Who used it, whoever has the purchase by now.
    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="archived_totals", db_index=False
    )
    dimension = models.ForeignKey(Dimension, models.PROTECT, related_name="archived_totals")
    day = models.DateField()
    disposition = models.CharField(max_length=20, choices=UsageEvent.Disposition)
    quantity = QuantityField()
    event_count = models.PositiveBigIntegerField()

    class Meta:
        verbose_name = _("total of archived usage")
        verbose_name_plural = _("totals of archived usage")
        ordering = ["-day", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["archive", "organization", "dimension", "day", "disposition"],
                name="usage_archive_total_once",
            ),
            models.CheckConstraint(
                condition=Q(quantity__gte=0, event_count__gt=0), name="usage_archive_total_of_something"
            ),
            models.CheckConstraint(
                condition=Q(disposition__in=["billable", "outside_agreement", "cancelled", "written_off"]),
                name="usage_archive_total_of_settled_usage",
            ),
        ]
        indexes = [models.Index(fields=["agreement", "day"], name="usage_archive_total_of_day")]

    def __str__(self) -> str:
        return f"{self.quantity.normalize():f} on {self.day}"


class ArchivedUsageKey(models.Model):
    """The key of an archived use, so that it names this use for ever. ``id`` is what the event's was.

    Digests instead of texts: half the size, and nothing of the buyer's is left in them.
    """

    id = models.BigIntegerField(primary_key=True)
    # No indexes of their own: the unique constraint begins with the one, and nobody asks by the other.
    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="archived_usage_keys", db_index=False
    )
    digest = models.UUIDField()  # of the key: the first 16 bytes of its SHA-256
    content = models.UUIDField()  # of dimension, quantity and tags, in the same way
    occurred_at = models.DateTimeField()
    total = models.ForeignKey(UsageArchiveTotal, models.PROTECT, related_name="keys", db_index=False)

    class Meta:
        verbose_name = _("key of archived usage")
        verbose_name_plural = _("keys of archived usage")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "digest"], name="archived_usage_key_once"),
        ]

    def __str__(self) -> str:
        return self.digest.hex

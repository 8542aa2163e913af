"""What was bought ahead, and when it was in force."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Self

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from billing.models.customers import Agreement

Value = int | float | bool | str


def value_of(*columns: Value | None) -> Value:
    """The one of an entitlement's four columns that is filled."""
    for column in columns:
        if column is not None:
            return column
    raise AssertionError("an entitlement has exactly one value")


def quantity_of(value: Value) -> Decimal:
    """How much a value allows: a number as it is, True as one, anything else as nothing."""
    if isinstance(value, str):
        return Decimal(0)
    # repr is the shortest text that means this double: 0.1 stays 0.1.
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


class EntitlementQuerySet(models.QuerySet["Entitlement"]):
    def current(self) -> Self:
        return self.filter(valid_to=None)

    def at(self, instant: datetime) -> Self:
        """Rows in force at ``instant``: from ``valid_from`` until ``valid_to``, the end excluded."""
        return self.filter(valid_from__lte=instant).filter(Q(valid_to=None) | Q(valid_to__gt=instant))


class Entitlement(models.Model):
    """One value of one dimension, from ``valid_from`` until ``valid_to`` (null: still).

    A row is a fact of the timeline: it is opened once and closed once. A changed value or expiry closes
    it and opens the next.
    """

    agreement = models.ForeignKey(Agreement, models.PROTECT, related_name="entitlements")
    dimension_key = models.CharField(max_length=255)
    # Exactly one of these: GetEntitlements' IntegerValue, DoubleValue, BooleanValue, StringValue.
    integer_value = models.BigIntegerField(null=True)
    double_value = models.FloatField(null=True)
    boolean_value = models.BooleanField(null=True)
    string_value = models.TextField(null=True)  # noqa: DJ001 - '' is a value AWS may send; null is none
    expires_at = models.DateTimeField(null=True)
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True)
    opened_because = models.CharField(max_length=200)
    closed_because = models.CharField(max_length=200, blank=True)

    objects = EntitlementQuerySet.as_manager()

    class Meta:
        verbose_name = _("entitlement")
        verbose_name_plural = _("entitlements")
        ordering = ["agreement", "dimension_key", "valid_from"]
        constraints = [
            models.UniqueConstraint(
                fields=["agreement", "dimension_key"],
                condition=Q(valid_to=None),
                name="entitlement_one_current_per_dimension",
            ),
            models.CheckConstraint(
                condition=(
                    Q(integer_value__isnull=False, double_value=None, boolean_value=None, string_value=None)
                    | Q(integer_value=None, double_value__isnull=False, boolean_value=None, string_value=None)
                    | Q(integer_value=None, double_value=None, boolean_value__isnull=False, string_value=None)
                    | Q(integer_value=None, double_value=None, boolean_value=None, string_value__isnull=False)
                ),
                name="entitlement_exactly_one_value",
            ),
            models.CheckConstraint(
                condition=Q(valid_to=None) | Q(valid_to__gt=F("valid_from")),
                name="entitlement_ends_after_it_starts",
            ),
        ]
        indexes = [
            # The clock looks for what expires: it is read anew at that instant.
            models.Index(fields=["expires_at"], condition=Q(valid_to=None), name="entitlement_expiring"),
        ]

    def __str__(self) -> str:
        return f"{self.dimension_key} = {self.value}"

    @property
    def value(self) -> Value:
        return value_of(self.integer_value, self.double_value, self.boolean_value, self.string_value)

    @property
    def quantity(self) -> Decimal:
        return quantity_of(self.value)

    @property
    def grants(self) -> bool:
        """Whether holding it opens a feature: a zero, False or empty value does not."""
        return bool(self.value)

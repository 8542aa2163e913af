"""Who bought, and what: AWS accounts, agreements, and the arrivals of their buyers."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import Organization
from billing.models.catalog import Product


class MarketplaceCustomer(models.Model):
    """One AWS account that bought something. The ids come from AWS only, never from a form."""

    aws_account_id = models.CharField(  # noqa: DJ001 - unknown ids are NULL: unique
        max_length=255, unique=True, null=True, validators=[RegexValidator(r"^[0-9]+$")]
    )
    # Legacy listings know their customers by this; newer ones have none.
    customer_identifier = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(aws_account_id=None) | Q(aws_account_id__regex=r"^[0-9]+$"),
                name="customer_account_is_digits",
            ),
            models.CheckConstraint(
                condition=~Q(aws_account_id=None) | ~Q(customer_identifier=None),
                name="customer_has_an_identity",
            ),
        ]

    def __str__(self) -> str:
        return f"AWS account {self.aws_account_id or self.customer_identifier}"

    @property
    def masked(self) -> str:
        """Enough of the account for its owner to recognize, too little for anybody else."""
        return f"•••• •••• {(self.aws_account_id or self.customer_identifier or '')[-4:]}"


class AgreementQuerySet(models.QuerySet["Agreement"]):
    def live(self) -> Self:
        """Those that give access now."""
        return self.filter(status__in=[Agreement.Status.ACTIVE])


class Agreement(models.Model):
    """One purchase of one product by one AWS account.

    ``status`` and the instants beside it are derived: billing.lifecycle folds them from the agreement's
    stored events and is the only writer.
    """

    class Identity(models.TextChoices):
        LICENSE = "license", "License (LicenseArn)"
        LEGACY = "legacy", "Legacy (ProductCode)"

    class Status(models.TextChoices):
        PENDING = "pending", "Waiting for AWS"
        ACTIVE = "active", "Active"
        ENDING = "ending", "Ending"
        ENDED = "ended", "Ended"
        FAILED = "failed", "Payment failed"

    product = models.ForeignKey(Product, models.PROTECT, related_name="agreements")
    customer = models.ForeignKey(MarketplaceCustomer, models.PROTECT, related_name="agreements")
    identity = models.CharField(max_length=10, choices=Identity)
    license_arn = models.CharField(max_length=1300, null=True)  # noqa: DJ001 - unknown ids are NULL: unique
    # The `l-…` part. AWS prints the ARN with and without its prefix; this part is always the same.
    license_id = models.CharField(max_length=255, null=True, unique=True)  # noqa: DJ001
    agreement_id = models.CharField(max_length=64, null=True, unique=True)  # noqa: DJ001
    offer_id = models.CharField(max_length=64, null=True)  # noqa: DJ001

    # Null until a buyer claims it: "bought, never registered".
    organization = models.ForeignKey(Organization, models.PROTECT, null=True, related_name="agreements")
    claimed_at = models.DateTimeField(null=True)

    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    trial_ends_at = models.DateTimeField(null=True)
    term_starts_at = models.DateTimeField(null=True)
    term_ends_at = models.DateTimeField(null=True)
    activated_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    # AWS refuses usage from this instant on.
    metering_closes_at = models.DateTimeField(null=True)
    previous = models.OneToOneField("self", models.PROTECT, null=True, related_name="successor")

    flagged_at = models.DateTimeField(null=True)
    flag_reason = models.CharField(max_length=300, blank=True)

    # The instant the newest applied GetEntitlements reading began: an older reading is never applied.
    entitlements_read_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = AgreementQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["product", "customer"],
                condition=Q(identity="legacy") & ~Q(status__in=["ended", "failed"]),
                name="agreement_one_live_legacy_per_customer",
            ),
            models.CheckConstraint(
                condition=Q(identity__in=["license", "legacy"]), name="agreement_identity_known"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "active", "ending", "ended", "failed"]),
                name="agreement_status_known",
            ),
            models.CheckConstraint(
                condition=Q(identity="legacy") | ~Q(license_id=None), name="agreement_license_has_id"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "failed"]) | ~Q(activated_at=None),
                name="agreement_active_has_start",
            ),
        ]
        indexes = [
            # The clock looks for windows that are over.
            models.Index(
                fields=["metering_closes_at"], condition=Q(status="ending"), name="agreement_closing"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.product} · {self.license_id or self.customer}"

    @property
    def audit_stream(self) -> str:
        return f"agreement:{self.pk}"

    def is_metered_at(self, instant: datetime) -> bool:
        """Whether AWS bills usage of that instant: from activation until the end, the end excluded."""
        if self.activated_at is None or instant < self.activated_at:
            return False
        return self.ended_at is None or instant < self.ended_at


class Registration(models.Model):
    """One arrival of a buyer's browser with a token. The token itself is stored nowhere."""

    digest = models.CharField(max_length=64, unique=True)  # SHA-256 of the token, in hexadecimal
    agreement = models.ForeignKey(Agreement, models.PROTECT, related_name="registrations")
    free_trial_hint = models.BooleanField(default=False)  # a form field: shown, never trusted
    expires_at = models.DateTimeField()
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="marketplace_registrations"
    )
    claimed_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"Arrival of {self.created_at:%Y-%m-%d %H:%M}"

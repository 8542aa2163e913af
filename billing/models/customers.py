"""Who bought, and what: AWS accounts, agreements, and the arrivals of their buyers."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

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
        verbose_name = _("AWS account")
        verbose_name_plural = _("AWS accounts")
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
    def live(self, now: datetime) -> Self:
        """Those that give access at ``now``: the active, and those whose successor is not there yet."""
        return self.filter(Q(status=Agreement.Status.ACTIVE) | Q(access_until__gt=now))

    def continued(self) -> Self:
        """Those of which AWS said that another agreement takes their place."""
        return self.filter(end_reason__in=Agreement.CONTINUED)


class Agreement(models.Model):
    """One purchase of one product by one AWS account.

    ``status`` and the instants beside it are derived: billing.lifecycle folds them from the agreement's
    stored events and is the only writer.
    """

    class Identity(models.TextChoices):
        LICENSE = "license", _("License (LicenseArn)")
        LEGACY = "legacy", _("Legacy (ProductCode)")

    class Status(models.TextChoices):
        PENDING = "pending", _("Waiting for AWS")
        ACTIVE = "active", _("Active")
        ENDING = "ending", _("Ending")
        ENDED = "ended", _("Ended")
        FAILED = "failed", _("Payment failed")

    class Intent(models.TextChoices):
        NEW = "NEW", _("New")
        RENEW = "RENEW", _("Renews another")
        REPLACE = "REPLACE", _("Replaces another")

    # AWS's words for an end after which another agreement goes on.
    CONTINUED = ("RENEWED", "REPLACED")
    # Our own: by SNS, and inferred because AWS lists no entitlements any more. The latter can be taken back.
    UNSUBSCRIBED = "UNSUBSCRIBED"
    GONE = "GONE"

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
    # AWS said that it is one; when it ends only DescribeAgreement tells.
    free_trial = models.BooleanField(default=False)
    trial_ends_at = models.DateTimeField(null=True)
    term_starts_at = models.DateTimeField(null=True)
    term_ends_at = models.DateTimeField(null=True)
    activated_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    # AWS's word (CANCELLED, EXPIRED, TERMINATED, RENEWED, REPLACED), or ours where it said none.
    end_reason = models.CharField(max_length=20, blank=True)
    # After the end: until then access goes on, because another agreement may be on its way.
    access_until = models.DateTimeField(null=True)
    # AWS refuses usage from this instant on.
    metering_closes_at = models.DateTimeField(null=True)
    auto_renews = models.BooleanField(null=True)  # null: AWS has not said
    advisory_issued_at = models.DateTimeField(
        null=True
    )  # AWS has warned about the buyer, and not resolved it

    # The chain of renewals: what AWS said, and the row it was found to mean. initial_agreement_id is the
    # same all along a chain; only DescribeAgreement tells it.
    intent = models.CharField(max_length=10, choices=Intent, blank=True)
    previous_agreement_id = models.CharField(max_length=64, null=True)  # noqa: DJ001 - unknown ids are NULL
    initial_agreement_id = models.CharField(max_length=64, null=True)  # noqa: DJ001
    previous = models.OneToOneField("self", models.PROTECT, null=True, related_name="successor")

    flagged_at = models.DateTimeField(null=True)
    flag_reason = models.CharField(max_length=300, blank=True)

    # The instant the newest applied GetEntitlements reading began: an older reading is never applied.
    entitlements_read_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = AgreementQuerySet.as_manager()

    class Meta:
        verbose_name = _("agreement")
        verbose_name_plural = _("agreements")
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
            models.CheckConstraint(
                condition=Q(access_until=None) | ~Q(ended_at=None), name="agreement_grace_is_after_an_end"
            ),
            models.CheckConstraint(
                condition=Q(previous=None) | ~Q(previous=models.F("id")), name="agreement_follows_another"
            ),
        ]
        indexes = [
            # The clock looks for windows that are over.
            models.Index(
                fields=["metering_closes_at"], condition=Q(status="ending"), name="agreement_closing"
            ),
            # And for trials that are.
            models.Index(fields=["trial_ends_at"], condition=Q(status="active"), name="agreement_on_trial"),
            # An agreement that ends looks for the one that continues it.
            models.Index(
                fields=["previous_agreement_id"], condition=Q(previous=None), name="agreement_continuing"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.product} · {self.license_id or self.customer}"

    @property
    def audit_stream(self) -> str:
        return f"agreement:{self.pk}"

    @property
    def is_continued(self) -> bool:
        """Whether another agreement takes its place."""
        return self.end_reason in self.CONTINUED

    @property
    def was_inferred_to_end(self) -> bool:
        """Whether no event of AWS's told of the end."""
        return self.end_reason == self.GONE

    @property
    def continues_another(self) -> bool:
        """Whether AWS said that it renews or replaces another agreement."""
        if self.intent in (self.Intent.RENEW, self.Intent.REPLACE):
            return True
        return self.initial_agreement_id is not None and self.initial_agreement_id != self.agreement_id

    def gives_access_at(self, now: datetime) -> bool:
        """Whether it opens what was bought: while it is active, and in the grace after its end."""
        return self.status == self.Status.ACTIVE or (
            self.access_until is not None and now < self.access_until
        )

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
    claimed_at = models.DateTimeField(null=True)  # when it was this arrival that set the purchase up
    # What the buyer said to the questions a fork adds to the onboarding form: name of the field -> answer.
    answers = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("arrival")
        verbose_name_plural = _("arrivals")
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"Arrival of {self.created_at:%Y-%m-%d %H:%M}"

"""The inbox of AWS's events, and what the world is owed because of them."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from billing.models.customers import Agreement


class MarketplaceEventQuerySet(models.QuerySet["MarketplaceEvent"]):
    def unsettled(self) -> Self:
        return self.filter(state__in=[MarketplaceEvent.State.RECEIVED, MarketplaceEvent.State.WAITING])

    def due(self, now: datetime) -> Self:
        """Those that are not put off after a failure."""
        return self.filter(Q(next_attempt_at=None) | Q(next_attempt_at__lte=now))


class MarketplaceEvent(models.Model):
    """Something AWS (or the clock) said. Stored before anything is done about it, and never changed."""

    class State(models.TextChoices):
        RECEIVED = "received", _("Received")
        APPLIED = "applied", _("Applied")
        WAITING = "waiting", _("Waiting for its agreement")
        FOREIGN = "foreign", _("Not about our products")
        UNKNOWN = "unknown", _("Of no known type")
        FAILED = "failed", _("Failed")
        REPLAYED = "replayed", _("Read again as another event")

    class Channel(models.TextChoices):
        EVENTBRIDGE = "eventbridge", _("EventBridge")
        SNS = "sns", _("SNS")
        CLOCK = "clock", _("The clock")
        READING = "reading", _("What we read at AWS")

    channel = models.CharField(max_length=12, choices=Channel)
    source_id = models.CharField(max_length=200)
    kind = models.CharField(max_length=120)  # AWS's detail-type or action, as it came
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField(default=timezone.now, editable=False)
    body = models.TextField()  # as received; NUL is escaped, PostgreSQL cannot keep it
    payload = models.JSONField(default=dict)
    # By what it is found again when its purchase becomes known. Null: AWS did not say, or too much.
    license_id = models.CharField(max_length=255, null=True)  # noqa: DJ001 - unknown ids are NULL
    aws_agreement_id = models.CharField(max_length=64, null=True)  # noqa: DJ001
    customer_identifier = models.CharField(max_length=255, null=True)  # noqa: DJ001
    agreement = models.ForeignKey(Agreement, models.PROTECT, null=True, related_name="events")
    state = models.CharField(max_length=10, choices=State, default=State.RECEIVED)
    error = models.TextField(blank=True)
    # Applications that failed so far, and until when the next is put off.
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    # When people were told that it waits for a purchase that nobody knows.
    alarmed_at = models.DateTimeField(null=True)

    objects = MarketplaceEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("inbox")
        ordering = ["-occurred_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["channel", "source_id"], name="marketplace_event_stored_once"),
        ]
        indexes = [
            models.Index(
                fields=["id"],
                condition=Q(state__in=["received", "waiting"]),
                name="marketplace_event_unsettled",
            ),
            # What nobody could understand: counted on the operators' front page.
            models.Index(
                fields=["state"],
                condition=Q(state__in=["failed", "unknown"]),
                name="marketplace_event_failed",
            ),
            *(
                models.Index(fields=[column], condition=Q(state__in=["received", "waiting"]), name=name)
                for column, name in (
                    ("license_id", "marketplace_event_of_license"),
                    ("aws_agreement_id", "event_of_agreement"),
                    ("customer_identifier", "event_of_customer"),
                )
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} ({self.occurred_at:%Y-%m-%d %H:%M:%S})"


class Effect(models.Model):
    """Something a change of state owes the world. Committed with the change, done by a task."""

    class Kind(models.TextChoices):
        SYNC_ENTITLEMENTS = "sync_entitlements", _("Read the entitlements")
        FLUSH_USAGE = "flush_usage", _("Send the last usage")
        DESCRIBE = "describe_agreement", _("Ask for trial and renewal chain")
        LINK = "link_renewal", _("Find what it renews or is renewed by")
        REVOKE = "revoke_access", _("Close what was bought")
        MAIL = "mail", _("Tell people")

    class State(models.TextChoices):
        DUE = "due", _("Due")
        DONE = "done", _("Done")
        SKIPPED = "skipped", _("Skipped")  # the world has moved on: the outcome says how

    agreement = models.ForeignKey(Agreement, models.PROTECT, related_name="effects")
    kind = models.CharField(max_length=20, choices=Kind)
    cause = models.CharField(max_length=200)
    # When what caused it happened at AWS: the instant the effect counts from.
    caused_at = models.DateTimeField()
    due_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=10, choices=State, default=State.DUE)
    attempts = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    outcome = models.CharField(max_length=200, blank=True)
    done_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("effect")
        verbose_name_plural = _("effects")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["agreement", "kind", "cause"], name="effect_owed_once_per_cause"),
            models.CheckConstraint(
                condition=Q(state__in=["due", "done", "skipped"]), name="effect_state_known"
            ),
        ]
        indexes = [models.Index(fields=["due_at"], condition=Q(state="due"), name="effect_due")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} · {self.get_state_display()}"

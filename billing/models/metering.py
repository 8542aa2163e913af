"""What is owed to AWS's BatchMeterUsage, what was sent, and what AWS said."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from billing.models.catalog import Dimension
from billing.models.customers import Agreement
from billing.models.fields import QuantityField


class MeteringRecordQuerySet(models.QuerySet["MeteringRecord"]):
    def sendable(self) -> Self:
        return self.filter(state__in=MeteringRecord.SENDABLE)


class MeteringRecord(models.Model):
    """One hour of one dimension of one agreement, as AWS is told it, once.

    Everything above ``state`` is fixed when the hour closes: every retry is byte for byte the first try,
    whatever the settings say by then, because AWS deduplicates by content.
    """

    class State(models.TextChoices):
        DUE = "due", _("Due")
        IN_DOUBT = "in_doubt", _("In doubt (sent, no answer)")
        WAITING = "waiting", _("Waiting (not subscribed yet)")
        ACCEPTED = "accepted", _("Accepted")
        CONFLICT = "conflict", _("Conflict (AWS holds another quantity)")
        PARKED = "parked", _("Parked (AWS refuses it)")
        HELD = "held", _("Held by an operator")
        EXPIRED = "expired", _("Expired (AWS's window is over)")
        VOID = "void", _("Void")
        WRITTEN_OFF = "written_off", _("Written off")
        NOT_DUE = "not_due", _("Nothing to bill")

    SENDABLE = (State.DUE, State.IN_DOUBT, State.WAITING)
    # AWS's window still runs for these.
    UNSETTLED = (*SENDABLE, State.HELD)
    # Neither on the way nor where almost all end: these want a person, or had one.
    UNUSUAL = (State.CONFLICT, State.PARKED, State.HELD, State.EXPIRED, State.VOID, State.WRITTEN_OFF)

    # No index of its own here: the unique constraint begins with it.
    agreement = models.ForeignKey(Agreement, models.PROTECT, related_name="metering_records", db_index=False)
    dimension = models.ForeignKey(Dimension, models.PROTECT, related_name="metering_records")
    hour = models.DateTimeField()  # the hour's first instant: AWS's dedupe key
    used = QuantityField()
    included = QuantityField()  # covered by what was bought ahead
    quantity = QuantityField()  # billed

    # The frozen wire form. Exactly one identity: a license, or a product code and a customer.
    wire_license_arn = models.CharField(max_length=1300, null=True)  # noqa: DJ001
    wire_product_code = models.CharField(max_length=255, null=True)  # noqa: DJ001
    wire_account_id = models.CharField(max_length=255, null=True)  # noqa: DJ001
    wire_customer_identifier = models.CharField(max_length=255, null=True)  # noqa: DJ001
    wire_region = models.CharField(max_length=30)
    wire_timestamp = models.DateTimeField()
    wire_quantity = models.CharField(max_length=17)
    wire_allocations = models.TextField(blank=True)  # JSON, or empty for none

    state = models.CharField(max_length=12, choices=State, default=State.DUE)
    submit_by = models.DateTimeField()
    next_attempt_at = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    # The fencing token of the submitter that last took it in hand: an outcome with an older one is void.
    claimed_by = models.BigIntegerField(null=True)
    aws_record_id = models.CharField(max_length=255, null=True)  # noqa: DJ001
    error_code = models.CharField(max_length=100, blank=True)
    error_message = models.TextField(blank=True)
    closed_at = models.DateTimeField(default=timezone.now, editable=False)
    settled_at = models.DateTimeField(null=True)

    objects = MeteringRecordQuerySet.as_manager()

    class Meta:
        verbose_name = _("metering record")
        verbose_name_plural = _("metering records")
        ordering = ["-hour", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["agreement", "dimension", "hour"], name="metering_record_once_per_hour"
            ),
            models.CheckConstraint(
                condition=Q(quantity=F("used") - F("included")),
                name="metering_record_quantity_is_used_less_included",
            ),
            models.CheckConstraint(
                condition=Q(included__gte=0) & Q(quantity__gte=0),
                name="metering_record_quantities_not_negative",
            ),
            models.CheckConstraint(
                condition=(
                    Q(wire_license_arn__isnull=False, wire_account_id__isnull=False)
                    & Q(wire_product_code=None, wire_customer_identifier=None)
                )
                | (
                    Q(wire_license_arn=None, wire_product_code__isnull=False)
                    & (
                        Q(wire_account_id__isnull=False, wire_customer_identifier=None)
                        | Q(wire_account_id=None, wire_customer_identifier__isnull=False)
                    )
                ),
                name="metering_record_exactly_one_identity",
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "due",
                        "in_doubt",
                        "waiting",
                        "accepted",
                        "conflict",
                        "parked",
                        "held",
                        "expired",
                        "void",
                        "written_off",
                        "not_due",
                    ]
                ),  # fmt: skip
                name="metering_record_state_known",
            ),
        ]
        indexes = [
            # The submitter takes what is due soonest.
            models.Index(
                fields=["submit_by", "id"],
                condition=Q(state__in=["due", "in_doubt", "waiting"]),
                name="metering_record_sendable",
            ),
            # Operators look at hours, newest first, and at days of them.
            models.Index(fields=["hour", "id"], name="metering_record_of_hour"),
            # And at what wants a person, or did: few records are ever in it.
            models.Index(
                fields=["state", "submit_by"],
                condition=~Q(state__in=["due", "in_doubt", "waiting", "accepted", "not_due"]),
                name="metering_record_unusual",
            ),
            # AWS and its invoices name a record by this.
            models.Index(
                fields=["aws_record_id"],
                condition=Q(aws_record_id__isnull=False),
                name="metering_record_at_aws",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity.normalize():f} in the hour of {self.hour:%Y-%m-%d %H}:00"


class Submission(models.Model):
    """One BatchMeterUsage call."""

    class Outcome(models.TextChoices):
        SENT = "sent", _("Sent, no answer yet")
        ANSWERED = "answered", _("Answered")
        REFUSED = "refused", _("Refused whole")
        FAILED = "failed", _("No answer")

    token = models.BigIntegerField()  # the submitter's fencing token
    # Of what refused batch this is a half.
    parent = models.ForeignKey("self", models.PROTECT, null=True, related_name="halves")
    record_count = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=10, choices=Outcome, default=Outcome.SENT)
    aws_request_id = models.CharField(max_length=100, blank=True)
    error_code = models.CharField(max_length=100, blank=True)
    error_message = models.TextField(blank=True)

    class Meta:
        verbose_name = _("submission")
        verbose_name_plural = _("submissions")
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["started_at"], name="submission_started"),
            # AWS's support asks for it.
            models.Index(
                fields=["aws_request_id"], condition=~Q(aws_request_id=""), name="submission_of_request"
            ),
        ]

    def __str__(self) -> str:
        return f"Submission {self.pk} of {self.record_count}"


class SubmissionLineQuerySet(models.QuerySet["SubmissionLine"]):
    def maybe_taken(self) -> Self:
        """Lines after which AWS may hold the record: accepted, unanswered, or answered in unknown words."""
        answered = Q(submission__outcome=Submission.Outcome.ANSWERED)
        return self.filter(Q(status__in=["", "Success"]) | answered & ~Q(status__in=SubmissionLine.NOT_TAKEN))


class SubmissionLine(models.Model):
    """What one call said of one record."""

    NOT_TAKEN = ("CustomerNotSubscribed", "DuplicateRecord", "Unprocessed")

    # No index of its own here: the unique constraint begins with it.
    submission = models.ForeignKey(Submission, models.PROTECT, related_name="lines", db_index=False)
    record = models.ForeignKey(MeteringRecord, models.PROTECT, related_name="submission_lines")
    # AWS's Status, "Unprocessed", an error code, or empty while there is no answer.
    status = models.CharField(max_length=100, blank=True)
    aws_record_id = models.CharField(max_length=255, null=True)  # noqa: DJ001

    objects = SubmissionLineQuerySet.as_manager()

    class Meta:
        verbose_name = _("answer of AWS")
        verbose_name_plural = _("answers of AWS")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["submission", "record"], name="submission_line_once_per_record"),
        ]

    def __str__(self) -> str:
        return f"{self.record_id}: {self.status or 'no answer'}"

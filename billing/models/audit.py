"""The record of who changed what, which nobody can quietly edit or cut short."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class AuditEvent(models.Model):
    """One link of a stream's HMAC chain. Holds ids, never personal data, and no foreign keys."""

    stream = models.CharField(max_length=60)  # "agreement:12", "organization:3", "staff" or "system"
    sequence = models.PositiveBigIntegerField()
    occurred_at = models.DateTimeField()
    actor = models.CharField(max_length=60)  # "user:7", "aws", "clock", "job:close_hours", "visitor" …
    action = models.CharField(max_length=60)
    data = models.JSONField(default=dict)
    previous_mac = models.CharField(max_length=64)
    mac = models.CharField(max_length=64)

    class Meta:
        verbose_name = _("audit link")
        verbose_name_plural = _("audit trail")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["stream", "sequence"], name="audit_event_sequence_once_per_stream"
            ),
        ]
        # The operators' list, newest first: of a time, of one person, of one kind of deed.
        indexes = [
            models.Index(fields=["occurred_at"], name="audit_event_in_time"),
            models.Index(fields=["actor", "id"], name="audit_event_of_actor"),
            models.Index(fields=["action", "id"], name="audit_event_of_action"),
        ]

    def __str__(self) -> str:
        return f"{self.stream} #{self.sequence} {self.action}"


class AuditHead(models.Model):
    """A stream's newest link, sealed: without it nobody would miss a link that is cut off at the end.

    Moved in the transaction of each new link. It only ever rises.
    """

    stream = models.CharField(max_length=60, unique=True)
    sequence = models.PositiveBigIntegerField()
    mac = models.CharField(max_length=64)
    seal = models.CharField(max_length=64)

    class Meta:
        verbose_name = _("audit head")
        verbose_name_plural = _("audit heads")

    def __str__(self) -> str:
        return f"{self.stream} up to #{self.sequence}"


class AuditCheckpoint(models.Model):
    """Stands for a stream's links up to ``sequence``, which were exported and then removed. Written once."""

    stream = models.CharField(max_length=60)
    sequence = models.PositiveBigIntegerField()
    mac = models.CharField(max_length=64)  # of the last link that was removed
    removed = models.PositiveBigIntegerField()  # links since the checkpoint before
    made_at = models.DateTimeField()
    seal = models.CharField(max_length=64)

    class Meta:
        verbose_name = _("audit checkpoint")
        verbose_name_plural = _("audit checkpoints")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["stream", "sequence"], name="audit_checkpoint_once_per_stream_and_link"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.stream} up to #{self.sequence}"

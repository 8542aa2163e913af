"""The record of who changed what, which nobody can quietly edit."""

from django.db import models


class AuditEvent(models.Model):
    """One link of a stream's HMAC chain. Holds ids, never personal data, and no foreign keys."""

    stream = models.CharField(max_length=60)  # "agreement:12", "staff" or "system"
    sequence = models.PositiveBigIntegerField()
    occurred_at = models.DateTimeField()
    actor = models.CharField(max_length=60)  # "user:7", "aws", "clock" or "job:close_hours"
    action = models.CharField(max_length=60)
    data = models.JSONField(default=dict)
    previous_mac = models.CharField(max_length=64)
    mac = models.CharField(max_length=64)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["stream", "sequence"], name="audit_event_sequence_once_per_stream"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.stream} #{self.sequence} {self.action}"

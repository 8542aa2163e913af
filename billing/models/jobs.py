"""Who runs what may only run once at a time, and how the scheduled jobs fare."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Lease(models.Model):
    """The right to be the one runner of a job until ``expires_at``, by the database's clock.

    ``token`` rises with every holder. A runner that was paused past its lease still holds its old token,
    and every write it then tries is conditional on that: the database refuses it.
    """

    name = models.CharField(max_length=60, unique=True)
    holder = models.CharField(max_length=120, blank=True)
    token = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField()

    class Meta:
        verbose_name = _("lease")
        verbose_name_plural = _("leases")

    def __str__(self) -> str:
        return self.name


class JobRun(models.Model):
    """How a scheduled job fares: one row each, written when a run begins and when it ends (billing.jobs)."""

    class Outcome(models.TextChoices):
        OK = "ok", _("Done")
        FAILED = "failed", _("Failed")

    name = models.CharField(max_length=60, unique=True)  # of the task: "close_hours"
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    succeeded_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=10, choices=Outcome, blank=True)  # of the last run that ended
    error = models.CharField(max_length=100, blank=True)  # AWS's code or the exception's class
    failed_in_a_row = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True)  # by the schedule; null: it is on none any more

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_running(self) -> bool:
        """As far as is known: a run that was killed never ends."""
        return self.finished_at is None or self.finished_at < self.started_at

"""What operators asked for: a repair each, what became of it, and who may ask for which."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

# One a repair, so that groups can be cut otherwise than ours are (billing.groups). They hang on the table
# that every repair writes: the rows that a repair changes are nobody's to edit.
PERMISSIONS = (
    ("sync_entitlements", _("May read entitlements at AWS now")),
    ("replay_event", _("May apply an event again")),
    ("resend_mail", _("May send a buyer's welcome again")),
    ("settle_flag", _("May take a flag away")),
    ("link_renewal", _("May say which purchase continues which")),
    ("submit_usage", _("May send usage to AWS now")),
    ("retry_record", _("May send refused records again")),
    ("hold_record", _("May hold and resume records")),
    ("void_record", _("May void records")),
    ("write_off", _("May write records and usage off")),
    ("bill_late_usage", _("May bill usage that came too late")),
    ("transfer_agreement", _("May move a purchase to another workspace")),
    ("manage_staff", _("May make others staff, and say what their groups may do")),
)


class OperatorTask(models.Model):
    """A confirmed repair of some rows. Committed before anything is done, carried out by billing.repairs.

    ``nonce`` comes from the page on which it was confirmed: pressed twice, it is one. What it changed is in
    the audit trail, under the person's name; this row tells how far it is and what was refused.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    UNFINISHED = (State.WAITING, State.RUNNING)

    nonce = models.CharField(max_length=32, unique=True)
    kind = models.CharField(max_length=40)  # of billing.repairs
    rows = models.JSONField(default=list)  # [primary key, what the person saw of it], in the order of work
    parameters = models.JSONField(default=dict)
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="operator_tasks")
    reason = models.CharField(max_length=500)
    asked_at = models.DateTimeField(default=timezone.now, editable=False)

    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    position = models.PositiveIntegerField(default=0)  # of the rows: those before it are dealt with
    done = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    refusals = models.JSONField(default=list)  # [primary key, why], the first hundreds
    outcome = models.CharField(max_length=300, blank=True)  # where rows do not say it
    error = models.CharField(max_length=300, blank=True)
    # Taken in hand until then: its runner is dead if it is not finished by then. ``run`` fences it off.
    in_hand_until = models.DateTimeField(default=timezone.now)
    run = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("repair")
        verbose_name_plural = _("repairs")
        ordering = ["-pk"]
        permissions = PERMISSIONS
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["waiting", "running", "done", "failed"]),
                name="operator_task_state_known",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["waiting", "running"], finished_at=None)
                | Q(state__in=["done", "failed"], finished_at__isnull=False),
                name="operator_task_finished_when_it_is",
            ),
        ]
        indexes = [
            models.Index(
                fields=["in_hand_until"],
                condition=Q(state__in=["waiting", "running"]),
                name="operator_task_unfinished",
            ),
        ]

    def __str__(self) -> str:
        return gettext("Repair %(number)s") % {"number": self.pk}

    @property
    def total(self) -> int:
        return len(self.rows)

    @property
    def is_finished(self) -> bool:
        return self.state not in self.UNFINISHED

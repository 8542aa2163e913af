"""Who came with a purchase of an AWS account that another workspace has, and wants to work there."""

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from billing.models.customers import Registration


class JoinRequest(models.Model):
    """Asked by the person who arrived, answered once by an owner or admin of the organization.

    Approved, the person is a member, and the purchase is the organization's if it was nobody's.
    """

    registration = models.ForeignKey(Registration, models.PROTECT, related_name="join_requests")
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="join_requests")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="join_requests")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    is_approved = models.BooleanField(null=True)  # None: not answered yet
    answered_at = models.DateTimeField(null=True)
    answered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="join_requests_answered"
    )

    class Meta:
        verbose_name = _("request to join")
        verbose_name_plural = _("requests to join")
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "user"],
                condition=Q(is_approved=None),
                name="join_request_one_open_per_person",
            ),
            models.CheckConstraint(
                condition=Q(is_approved=None, answered_at=None, answered_by=None)
                | Q(is_approved__isnull=False, answered_at__isnull=False, answered_by__isnull=False),
                name="join_request_answered_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} asks to join {self.organization}"

    def was_refused_since(self, since: datetime) -> bool:
        return self.is_approved is False and self.answered_at is not None and self.answered_at > since

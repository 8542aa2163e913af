"""Whose a purchase was before it was moved."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization
from billing.models.customers import Agreement


class AgreementMove(models.Model):
    """An operator gave a purchase to another workspace. Written with the move, and never changed."""

    agreement = models.ForeignKey(Agreement, models.PROTECT, related_name="moves")
    from_organization = models.ForeignKey(Organization, models.PROTECT, related_name="moves_away")
    to_organization = models.ForeignKey(Organization, models.PROTECT, related_name="moves_in")
    moved_at = models.DateTimeField()
    moved_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="agreement_moves")

    class Meta:
        verbose_name = _("move to another workspace")
        verbose_name_plural = _("moves to another workspace")
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(from_organization=F("to_organization")), name="agreement_move_goes_elsewhere"
            ),
        ]

    def __str__(self) -> str:
        return f"Move of {self.moved_at:%Y-%m-%d %H:%M}"

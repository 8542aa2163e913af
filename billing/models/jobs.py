"""Who runs what may only run once at a time."""

from django.db import models


class Lease(models.Model):
    """The right to be the one runner of a job until ``expires_at``, by the database's clock.

    ``token`` rises with every holder. A runner that was paused past its lease still holds its old token,
    and every write it then tries is conditional on that: the database refuses it.
    """

    name = models.CharField(max_length=60, unique=True)
    holder = models.CharField(max_length=120, blank=True)
    token = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name

"""Mails came with the migration before: what had happened by then is told to nobody any more."""

from django.db import migrations
from django.utils import timezone

# By status, the mails whose moment has passed: see billing/mails.py.
_TOLD = {
    "pending": [],
    "active": ["seller_new:", "buyer_activated:1"],
    "ending": ["seller_new:", "buyer_activated:1", "buyer_ending:1", "seller_ended:1"],
    "ended": ["seller_new:", "buyer_activated:1", "buyer_ending:1", "seller_ended:1", "buyer_ended:1"],
    "failed": ["buyer_failed:0"],
}


def skip_mails_of_the_past(apps, schema_editor):
    """One agreement at a time, and none twice: what is there already stays."""
    agreements = apps.get_model("billing", "Agreement").objects.order_by("pk")
    effects = apps.get_model("billing", "Effect").objects
    now = timezone.now()
    for agreement in agreements.only("pk", "status", "created_at").iterator():
        effects.bulk_create(
            (
                effects.model(
                    agreement=agreement,
                    kind="mail",
                    cause=cause,
                    caused_at=agreement.created_at,
                    due_at=agreement.created_at,
                    state="skipped",
                    done_at=now,
                    outcome="it happened before there were mails",
                )
                for cause in [*_TOLD[agreement.status], "seller_never_registered:"]
            ),
            ignore_conflicts=True,
        )


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_name_waiting_events")]

    operations = [migrations.RunPython(skip_mails_of_the_past, migrations.RunPython.noop)]

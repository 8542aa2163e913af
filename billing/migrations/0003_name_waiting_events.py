"""Events that wait are found by columns from now on, no longer by looking into every payload."""

import re

from django.db import migrations

_LICENSE_ID = re.compile(r"(?:^|[:/])(l-[0-9A-Za-z]+)$")


def name_waiting_events(apps, schema_editor):
    """A few hundred at most: they wait for a purchase. Run twice it writes the same."""
    event_model = apps.get_model("billing", "MarketplaceEvent")
    for event in event_model.objects.filter(state__in=["received", "waiting"]).defer("body").iterator():
        found = _LICENSE_ID.search(event.payload.get("license_arn", ""))
        event.license_id = _fitting(found.group(1) if found else None, 255)
        event.aws_agreement_id = _fitting(event.payload.get("agreement_id"), 64)
        event.customer_identifier = _fitting(event.payload.get("customer_identifier"), 255)
        event.save(update_fields=["license_id", "aws_agreement_id", "customer_identifier"])


def _fitting(name, room):
    return name if name and len(name) <= room else None


class Migration(migrations.Migration):
    dependencies = [("billing", "0002_purchases_live")]

    operations = [migrations.RunPython(name_waiting_events, migrations.RunPython.noop)]

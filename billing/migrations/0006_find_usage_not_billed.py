from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0005_join_requests_and_answers"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="usageevent",
            index=models.Index(
                fields=["agreement", "occurred_at"],
                condition=models.Q(("disposition", "billable"), _negated=True),
                name="usage_event_not_billed",
            ),
        ),
    ]

from django.db import migrations, models
from django.db.models import Q

_NAMES = "organization_name_beginning"


def index_the_beginnings_of_names(apps, schema_editor):
    """PostgreSQL's LIKE needs an operator class that SQLite has no word for; a laptop has few names."""
    if schema_editor.connection.vendor == "postgresql":
        table = apps.get_model("accounts", "Organization")._meta.db_table
        schema_editor.execute(f"CREATE INDEX {_NAMES} ON {table} (UPPER(name) text_pattern_ops)")


def drop_the_beginnings_of_names(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP INDEX {_NAMES}")


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_preferences_and_closing"),
        ("billing", "0008_job_runs"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="meteringrecord",
            index=models.Index(fields=["hour", "id"], name="metering_record_of_hour"),
        ),
        migrations.AddIndex(
            model_name="meteringrecord",
            index=models.Index(
                fields=["state", "submit_by"],
                condition=~Q(state__in=["due", "in_doubt", "waiting", "accepted", "not_due"]),
                name="metering_record_unusual",
            ),
        ),
        migrations.AddIndex(
            model_name="meteringrecord",
            index=models.Index(
                fields=["aws_record_id"],
                condition=Q(aws_record_id__isnull=False),
                name="metering_record_at_aws",
            ),
        ),
        migrations.AddIndex(
            model_name="usageevent",
            index=models.Index(fields=["occurred_at", "id"], name="usage_event_of_time"),
        ),
        migrations.AddIndex(
            model_name="submission",
            index=models.Index(fields=["started_at"], name="submission_started"),
        ),
        migrations.AddIndex(
            model_name="submission",
            index=models.Index(
                fields=["aws_request_id"], condition=~Q(aws_request_id=""), name="submission_of_request"
            ),
        ),
        migrations.AddIndex(
            model_name="marketplaceevent",
            index=models.Index(
                fields=["state"],
                condition=Q(state__in=["failed", "unknown"]),
                name="marketplace_event_failed",
            ),
        ),
        migrations.RunPython(index_the_beginnings_of_names, drop_the_beginnings_of_names),
    ]

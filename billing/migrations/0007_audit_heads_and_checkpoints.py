from django.db import migrations, models


class Migration(migrations.Migration):
    """Streams that are there already get no head here: only who looks at them first may vouch for their ends.

    `manage.py verify_audit --adopt` does, once the old version of the code has stopped.
    """

    dependencies = [
        ("billing", "0006_find_usage_not_billed"),
    ]

    operations = [
        migrations.CreateModel(
            name="AuditHead",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("stream", models.CharField(max_length=60, unique=True)),
                ("sequence", models.PositiveBigIntegerField()),
                ("mac", models.CharField(max_length=64)),
                ("seal", models.CharField(max_length=64)),
            ],
            options={"verbose_name": "audit head", "verbose_name_plural": "audit heads"},
        ),
        migrations.CreateModel(
            name="AuditCheckpoint",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("stream", models.CharField(max_length=60)),
                ("sequence", models.PositiveBigIntegerField()),
                ("mac", models.CharField(max_length=64)),
                ("removed", models.PositiveBigIntegerField()),
                ("made_at", models.DateTimeField()),
                ("seal", models.CharField(max_length=64)),
            ],
            options={
                "verbose_name": "audit checkpoint",
                "verbose_name_plural": "audit checkpoints",
                "ordering": ["-pk"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("stream", "sequence"), name="audit_checkpoint_once_per_stream_and_link"
                    )
                ],
            },
        ),
        migrations.AlterModelOptions(
            name="auditevent",
            options={
                "ordering": ["-pk"],
                "verbose_name": "audit link",
                "verbose_name_plural": "audit trail",
            },
        ),
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(fields=["occurred_at"], name="audit_event_in_time"),
        ),
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(fields=["actor", "id"], name="audit_event_of_actor"),
        ),
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(fields=["action", "id"], name="audit_event_of_action"),
        ),
    ]

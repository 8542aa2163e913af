from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0007_audit_heads_and_checkpoints"),
    ]

    operations = [
        migrations.CreateModel(
            name="JobRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=60, unique=True)),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(null=True)),
                ("succeeded_at", models.DateTimeField(null=True)),
                (
                    "outcome",
                    models.CharField(
                        blank=True, choices=[("ok", "Done"), ("failed", "Failed")], max_length=10
                    ),
                ),
                ("error", models.CharField(blank=True, max_length=100)),
                ("failed_in_a_row", models.PositiveIntegerField(default=0)),
                ("due_at", models.DateTimeField(null=True)),
            ],
            options={"verbose_name": "job", "verbose_name_plural": "jobs", "ordering": ["name"]},
        ),
        migrations.AlterModelOptions(
            name="agreement",
            options={
                "ordering": ["-created_at", "-pk"],
                "verbose_name": "agreement",
                "verbose_name_plural": "agreements",
            },
        ),
        migrations.AlterModelOptions(
            name="dimension",
            options={
                "ordering": ["product", "kind", "key"],
                "verbose_name": "dimension",
                "verbose_name_plural": "dimensions",
            },
        ),
        migrations.AlterModelOptions(
            name="effect",
            options={"ordering": ["-pk"], "verbose_name": "effect", "verbose_name_plural": "effects"},
        ),
        migrations.AlterModelOptions(
            name="entitlement",
            options={
                "ordering": ["agreement", "dimension_key", "valid_from"],
                "verbose_name": "entitlement",
                "verbose_name_plural": "entitlements",
            },
        ),
        migrations.AlterModelOptions(
            name="joinrequest",
            options={
                "ordering": ["-created_at", "-pk"],
                "verbose_name": "request to join",
                "verbose_name_plural": "requests to join",
            },
        ),
        migrations.AlterModelOptions(
            name="lease",
            options={"verbose_name": "lease", "verbose_name_plural": "leases"},
        ),
        migrations.AlterModelOptions(
            name="marketplacecustomer",
            options={"verbose_name": "AWS account", "verbose_name_plural": "AWS accounts"},
        ),
        migrations.AlterModelOptions(
            name="marketplaceevent",
            options={
                "ordering": ["-occurred_at", "-pk"],
                "verbose_name": "event",
                "verbose_name_plural": "inbox",
            },
        ),
        migrations.AlterModelOptions(
            name="meteringrecord",
            options={
                "ordering": ["-hour", "-pk"],
                "verbose_name": "metering record",
                "verbose_name_plural": "metering records",
            },
        ),
        migrations.AlterModelOptions(
            name="product",
            options={
                "ordering": ["title", "pk"],
                "verbose_name": "product",
                "verbose_name_plural": "products",
            },
        ),
        migrations.AlterModelOptions(
            name="registration",
            options={
                "ordering": ["-created_at", "-pk"],
                "verbose_name": "arrival",
                "verbose_name_plural": "arrivals",
            },
        ),
        migrations.AlterModelOptions(
            name="submission",
            options={"ordering": ["-pk"], "verbose_name": "submission", "verbose_name_plural": "submissions"},
        ),
        migrations.AlterModelOptions(
            name="submissionline",
            options={
                "ordering": ["pk"],
                "verbose_name": "answer of AWS",
                "verbose_name_plural": "answers of AWS",
            },
        ),
        migrations.AlterModelOptions(
            name="usageevent",
            options={
                "ordering": ["-pk"],
                "verbose_name": "usage event",
                "verbose_name_plural": "usage events",
            },
        ),
    ]

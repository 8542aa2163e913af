import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_preferences_and_closing'),
        ('billing', '0013_agreement_moves'),
    ]

    operations = [
        # No release has archived anything: there is no row that the default would be for.
        migrations.AddField(
            model_name='usagearchivetotal',
            name='organization',
            field=models.ForeignKey(db_index=False, default=0, on_delete=django.db.models.deletion.PROTECT, related_name='archived_totals', to='accounts.organization'),
            preserve_default=False,
        ),
        migrations.RemoveConstraint(
            model_name='usagearchivetotal',
            name='usage_archive_total_once',
        ),
        migrations.AddConstraint(
            model_name='usagearchivetotal',
            constraint=models.UniqueConstraint(fields=('archive', 'organization', 'dimension', 'day', 'disposition'), name='usage_archive_total_once'),
        ),
    ]

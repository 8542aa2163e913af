from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate


class BillingConfig(AppConfig):
    name = "billing"
    verbose_name = "AWS Marketplace"

    def ready(self) -> None:
        # Imported here because models cannot be imported before the apps are loaded.
        from billing import checks, groups, triggers  # noqa: F401
        from billing.onboarding import visitors  # noqa: F401
        from billing.trail import catalog, people, staff

        staff.connect()
        people.connect()
        catalog.connect()

        def drop_triggers(using: str, plan: Any, **kwargs: Any) -> None:
            # SQLite rebuilds a table to alter it, and refuses where another table's trigger reads it.
            connection = connections[using]
            if connection.vendor == "sqlite" and plan:
                triggers.drop_all(connection)

        def install_triggers(using: str, **kwargs: Any) -> None:
            if triggers.TRIGGERS[0].table in connections[using].introspection.table_names():
                triggers.install(connections[using])

        def update_groups(using: str, **kwargs: Any) -> None:
            if groups.tables_are_there(connections[using].introspection.table_names()):
                groups.bring_up_to_date()

        pre_migrate.connect(drop_triggers, sender=self, weak=False)
        post_migrate.connect(install_triggers, sender=self, weak=False)
        # After auth has made the permissions of this app, and of those before it: accounts.
        post_migrate.connect(update_groups, sender=self, weak=False)

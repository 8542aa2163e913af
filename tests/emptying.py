"""How a test that committed ends: every table emptied, fast.

Django's flush truncates each table, which takes a second on PostgreSQL however little is in them, and runs
what follows a migration once more. This deletes the rows, and leaves what migrations made.
"""

from __future__ import annotations

from functools import cache

from django.db import connection, transaction

from billing import triggers

# Made by migrating, and by nothing else.
KEPT = (
    "auth_group",
    "auth_group_permissions",
    "auth_permission",
    "django_content_type",
    "django_migrations",
)


def empty(*_: object) -> None:
    """The append-only triggers would refuse it: they are off meanwhile."""
    if connection.vendor == "postgresql":
        with transaction.atomic(), connection.cursor() as cursor:
            # Neither triggers nor foreign keys are looked at.
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(";".join(f'DELETE FROM "{table}"' for table in _tables()))
        return
    triggers.drop_all(connection)
    try:
        with connection.constraint_checks_disabled(), transaction.atomic(), connection.cursor() as cursor:
            for table in _tables():
                cursor.execute(f'DELETE FROM "{table}"')
    finally:
        triggers.install(connection)


@cache
def _tables() -> list[str]:
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return [name for name in names if name not in KEPT]

"""Statements that are worth planning once per connection: those of every use, and of every page."""

from __future__ import annotations

from django.db import connection
from django.db.backends.postgresql.base import ServerBindingCursor
from django.db.backends.utils import CursorWrapper


def cursor() -> CursorWrapper:
    """Django's cursor; on PostgreSQL as it binds parameters on the server, which then keeps the plan.

    Planning takes as long as the statement. ``prepare_threshold`` in DATABASES says whether plans are kept.
    Give numbers as psycopg's Int8: as one type whatever their size, or each size would be planned anew.
    """
    if connection.vendor != "postgresql":
        return connection.cursor()
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    return wrap(ServerBindingCursor(connection.connection))  # type: ignore[arg-type, call-arg]  # stubs

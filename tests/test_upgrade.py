"""A database of an earlier commit, with purchases in it, comes up to date."""

from __future__ import annotations

import re
import sqlite3

import pytest

from tests.journeys import processes

BEFORE = "0001_initial"
PURCHASE = """
    INSERT INTO billing_product (id, code, product_id, title, pricing)
        VALUES (1, 'reports', 'prod-1', 'Reports', 'subscription');
    INSERT INTO billing_marketplacecustomer (id, aws_account_id, created_at) VALUES (1, '123', '2026-01-01');
    INSERT INTO billing_agreement (id, product_id, customer_id, identity, license_id, status, activated_at,
                                   flag_reason, created_at)
        VALUES (1, 1, 1, 'license', 'l-1', 'active', '2026-01-01', '', '2026-01-01');
    INSERT INTO billing_marketplaceevent (id, channel, source_id, kind, occurred_at, received_at, body,
                                          payload, state, error, attempts)
        VALUES (1, 'eventbridge', 'e-1', 'Ended', '2026-01-01', '2026-01-01', '{}',
                '{"agreement_id": "agmt-1", "license_arn": "arn:aws:license-manager::1:license:l-2"}',
                'waiting', '', 0);
"""


@pytest.mark.slow
def test_a_database_with_purchases_comes_up_to_date(tmp_path):
    file = tmp_path / "db.sqlite3"
    manage(file, "migrate", "billing", BEFORE)
    with sqlite3.connect(file) as database:
        database.create_function("REGEXP", 2, lambda pattern, text: bool(re.search(pattern, text)))
        database.executescript(PURCHASE)
    manage(file, "migrate")
    manage(file, "check", "--database", "default")
    with sqlite3.connect(file) as database:
        found = database.execute(
            "SELECT aws_agreement_id, license_id FROM billing_marketplaceevent"
        ).fetchall()
        mails = database.execute("SELECT cause, state FROM billing_effect ORDER BY cause").fetchall()
    assert found == [("agmt-1", "l-2")]
    causes = ("buyer_activated:1", "seller_never_registered:", "seller_new:")
    assert mails == [(cause, "skipped") for cause in causes]


def manage(file, *arguments):
    """As whoever installed it types it: with the site's own settings, on a database of its own."""
    processes.manage(
        *arguments,
        DJANGO_SETTINGS_MODULE="marketplace_saas.settings",
        ENV_FILE="",
        DEBUG="true",
        DATABASE_URL=f"sqlite:///{file}",
        DATA_DIR=str(file.parent),
    )

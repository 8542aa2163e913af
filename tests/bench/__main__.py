"""`make bench`: each hot path beside the barest form of the same work, on PostgreSQL.

Prints a table and writes bench.json. A missed hold is a number, not a failure.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path

import django

from tests.bench.compare import HEAD
from tests.run import POSTGRES_URL, unreachable_postgres

DATABASE = "marketplace_saas_bench"  # made, and dropped again
os.environ.update(DATABASE_URL=POSTGRES_URL, REDIS_URL="", DJANGO_SETTINGS_MODULE="tests.settings")


def main(*, quick: bool) -> None:
    why = unreachable_postgres()
    if why is not None:
        sys.exit(f"`make bench` needs PostgreSQL: {why}")
    django.setup()
    logging.disable(logging.INFO)
    # Whatever imports models can be imported only now.
    from django.conf import settings
    from django.db import connection

    from billing import catalog
    from tests.bench import measures

    served = connection.settings_dict["NAME"]
    connection.settings_dict["TEST"]["NAME"] = DATABASE
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    found = []
    try:
        catalog.load(json.loads(settings.MARKETPLACE_CATALOG.read_text()))
        print(HEAD)
        for line in (line for measure in measures.ALL for line in measure(quick=quick)):
            print(line, flush=True)
            found.append(line)
    finally:
        connection.creation.destroy_test_db(served, verbosity=0)
    Path("bench.json").write_text(json.dumps([asdict(line) for line in found], indent=2) + "\n")
    print(f"{sum(line.holds for line in found)} of {len(found)} hold; written to bench.json")


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)

"""`make bench`: each hot path beside the barest form of the same work, on PostgreSQL.

Prints a table and, unless only some are asked for, writes bench.json. A missed hold is a number, not a
failure.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import django

from tests.bench.compare import HEAD
from tests.run import POSTGRES_URL, unreachable_postgres

DATABASE = "marketplace_saas_bench"  # made, and dropped again
os.environ.update(DATABASE_URL=POSTGRES_URL, REDIS_URL="", DJANGO_SETTINGS_MODULE="tests.settings")


def main(*, quick: bool, only: Collection[str] = ()) -> None:
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

    known = {measure.__name__: measure for measure in measures.ALL}
    if unknown := set(only) - set(known):
        sys.exit(f"No measure is named {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
    chosen = [measure for name, measure in known.items() if not only or name in only]
    served = connection.settings_dict["NAME"]
    connection.settings_dict["TEST"]["NAME"] = DATABASE
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    found = []
    try:
        catalog.load(json.loads(settings.MARKETPLACE_CATALOG.read_text()))
        print(HEAD)
        for line in (line for measure in chosen for line in measure(quick=quick)):
            print(line, flush=True)
            found.append(line)
    finally:
        connection.creation.destroy_test_db(served, verbosity=0)
    print(f"{sum(line.holds for line in found)} of {len(found)} hold")
    if not only:
        Path("bench.json").write_text(json.dumps([asdict(line) for line in found], indent=2) + "\n")
        print("written to bench.json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these measures, by function")
    main(**vars(parser.parse_args()))

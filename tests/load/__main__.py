"""`make load`: pages under load, then everything that can go away goes away and comes back.

Prints p50, p95 and p99 of each page; then, with buyers arriving and usage being recorded, kills and restarts
the worker, a gunicorn process, Redis and PostgreSQL. It fails when a purchase or a use is lost, when AWS
would bill something else than was recorded, or when a page fails while nothing is down. About three minutes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import django

from tests.load import stack as stacks


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        try:
            with stacks.running(Path(folder)) as stack:
                os.environ.update(stack.environment)
                django.setup()
                # They import models, which can be imported from here on.
                from tests.load import story

                return story.play(stack)
        except stacks.Missing as missing:
            print(missing)
            return 2


if __name__ == "__main__":
    sys.exit(main())

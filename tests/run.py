"""`make test`: every test on SQLite, and again on PostgreSQL with Redis where they answer.

Each run is named. Where PostgreSQL or Redis does not answer, the run is skipped and says why; with CI set
that is an error. Only test databases of its own, `test_marketplace_saas…`, are created and dropped, and Redis
is never flushed. `make coverage` is a run of its own, on SQLite: measuring doubles what a test takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import psycopg
import redis

POSTGRES_URL = os.environ.get("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/marketplace_saas")
REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15")
IN_CI = bool(os.environ.get("CI"))
# They walk over everything; coverage is of the tests that look closely.
WALKS = ["--ignore=tests/journeys", "--ignore=tests/test_hardening.py", "--ignore=tests/bench"]
# What renders pages, reads files, reckons or talks to AWS: a second database would tell nothing new.
WITHOUT_DATABASE = (
    "marketplace_saas/example/test_reports.py",
    "tests/simulator",
    *(
        f"tests/accounts/test_{subject}.py"
        for subject in (
            "allauth_pages",
            "bad_input",
            "home",
            "profile",
            "rate_limits",
            "social",
            "tenant_views",
        )
    ),
    *(
        f"tests/billing/test_{subject}.py"
        for subject in (
            "admin_access",
            "admin_pages",
            "admin_permissions",
            "allocations",
            "aws_client",
            "bar_chart",
            "doctor",
            "errors",
            "getting_ready",
            "hours",
            "mails",
            "onboarding",
            "pacing",
            "quantities",
            "sns_signature",
            "staff",
            "subscriptions",
            "window",
            "wire",
        )
    ),
    *(
        f"tests/test_{subject}.py"
        for subject in (
            "architecture",
            "deploy_aws",
            "docs",
            "errors",
            "hardening",
            "languages",
            "logs",
            "mail_html",
            "mail_previews",
            "outbox",
            "pages",
            "production",
            "rename",
            "secrets",
            "security_docs",
            "settings",
        )
    ),
)
PROOFS = ["-m", "slow"]


def main(arguments: list[str]) -> int:
    if arguments == ["--coverage"]:
        measured = ["-m", "not slow and not browser", *WALKS, "--cov", "--cov-report=term-missing"]
        return run("SQLite, measured", {"DATABASE_URL": ""}, measured)
    postgres, broker = unreachable_postgres(), unreachable_redis()
    environment = {} if broker else {"TEST_REDIS_URL": REDIS_URL}
    with_redis = "" if broker else " and Redis"
    chosen = arguments or ["-m", "not slow"]
    failures = run(f"SQLite{with_redis}", {**environment, "DATABASE_URL": ""}, chosen)
    if postgres is None and arguments in ([], PROOFS):
        again = ["-m", "slow and ledger"] if arguments else ["-m", "not slow and not browser"]
        again += [f"--ignore={each}" for each in WITHOUT_DATABASE]
        failures += run(f"PostgreSQL{with_redis}", {**environment, "DATABASE_URL": POSTGRES_URL}, again)
    for name, why in (("PostgreSQL", postgres), ("Redis", broker)):
        if why is not None:
            print(f"\nSKIPPED: no test ran against {name}: {why}")
            failures += IN_CI
    return 1 if failures else 0


def run(name: str, environment: Mapping[str, str], arguments: list[str]) -> int:
    print(f"\n=== {name} " + "=" * (90 - len(name)), flush=True)
    settings = {name: value for name, value in {**os.environ, **environment}.items() if value}
    command = [
        sys.executable,
        "-m",
        "pytest",
        # One more than CI has cores: each waits now and then, for a database or for AWS. Proofs start
        # processes of their own.
        "-n",
        "2" if "slow" in arguments or "slow and ledger" in arguments else "3",
        "--dist",
        "loadfile",
        "--no-loadscope-reorder",  # as tests/plugin.py sorts them
        "--durations=12",
        *arguments,
    ]
    return subprocess.run(command, env=settings, check=False).returncode


def unreachable_postgres() -> str | None:
    """Why PostgreSQL cannot be used, or None."""
    server = POSTGRES_URL.rpartition("/")[0] + "/postgres"
    try:
        psycopg.connect(server, connect_timeout=3).close()
    except psycopg.Error as error:
        return f"{error} (TEST_POSTGRES_URL changes the address)".replace("\n", " ")
    return None


def unreachable_redis() -> str | None:
    try:
        with redis.Redis.from_url(REDIS_URL, socket_connect_timeout=3) as client:
            client.ping()
    except redis.RedisError as error:
        return f"{error} (TEST_REDIS_URL changes the address)"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

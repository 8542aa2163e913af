"""This installation: database, jobs, mail, secrets, and the page that AWS sends buyers to."""

from __future__ import annotations

import smtplib
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks, mail
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.urls import reverse

from billing import jobs, triggers
from billing.admin.health import jobs as punctuality
from billing.doctor.findings import Finding, Patient, Verdict, bad, good, open_question

_PATIENCE = 10  # seconds
_START = "Start celery -A marketplace_saas worker, and celery -A marketplace_saas beat, one beat in all."


def look(patient: Patient) -> Iterator[Finding]:
    database = _database()
    yield database
    patient.has_tables = database.verdict is Verdict.OK
    if patient.has_tables:
        yield _triggers()
        yield from _jobs(patient)
    yield _mail()
    yield _fulfillment_url()
    yield from _secrets()
    yield from _deployment()
    if not patient.has_tables:
        yield open_question("the rest", "AWS, listing and events are looked at once the database is in order")


def _database() -> Finding:
    try:
        executor = MigrationExecutor(connection)
        due = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        return bad(
            "database",
            "The database does not answer",
            cause=type(error).__name__,
            fix="Is it up, and DATABASE_URL right?",
        )
    if not due:
        return good("migrations", "Every migration is applied")
    names = ", ".join(str(migration) for migration, _ in due[:3])
    return bad(
        "migrations",
        f"{len(due)} migrations are not applied: {names}{'…' if len(due) > 3 else ''}",
        fix="Run manage.py migrate.",
    )


def _triggers() -> Finding:
    missing = triggers.missing(connection)
    if missing:
        return bad(
            "triggers",
            f"{len(missing)} triggers that protect the ledger are missing: {', '.join(sorted(missing)[:3])}",
            cause="Somebody dropped them, or restored the database without them.",
            fix="Run manage.py migrate, which makes them again; then verify_ledger and verify_audit.",
        )
    return good("triggers", "The triggers that protect the ledger are there")


def _jobs(patient: Patient) -> Iterator[Finding]:
    runs = punctuality.read()
    names = sorted(jobs.scheduled())
    late = {name: punctuality.late_by(runs[name], now=patient.now) for name in names if name in runs}
    # One that runs once a day has not run on the first.
    frequent = [name for name in names if name not in runs and not _is_rare(name)]
    overdue = [name for name, by in late.items() if by is not None]
    if not runs:
        yield bad("beat and worker", "No job has ever run", cause="No beat, or no worker.", fix=_START)
    elif overdue or frequent:
        newest = max(run.started_at for run in runs.values())
        yield bad(
            "beat and worker",
            f"Jobs are late: {', '.join(overdue + frequent)}",
            cause=f"The last job of all began at {newest:%Y-%m-%d %H:%M:%S} UTC.",
            fix=_START,
        )
    else:
        yield good("beat and worker", "Beat and worker: every job runs when it is due")
    for name in names:
        run = runs.get(name)
        if run is not None and run.failed_in_a_row:
            yield bad(
                f"job {name}",
                f"The job {name} has failed {run.failed_in_a_row} times in a row",
                cause=run.error,
                fix="The worker's log has the whole story.",
            )


def _is_rare(name: str) -> bool:
    return name in ("note_audit_heads", "close_hours")


def _mail() -> Finding:
    if not settings.EMAIL_BACKEND.endswith("smtp.EmailBackend"):
        return open_question(
            "mail", "Mail goes to no mail server", fix="Set EMAIL_URL: production refuses to start without."
        )
    server = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    own = mail.get_connection()
    try:
        own.open()
        own.close()
    except (OSError, smtplib.SMTPException) as error:
        return bad(
            "mail",
            f"The mail server {server} does not let us in",
            cause=type(error).__name__,
            fix="Correct EMAIL_URL: user, password, port, and smtp+tls:// or smtp+ssl://.",
        )
    return good("mail", f"The mail server {server} lets us in; nothing was sent")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _fulfillment_url() -> Finding:
    url = settings.SITE_URL + reverse("billing:register")
    try:
        with urllib.request.build_opener(_NoRedirect).open(url, timeout=_PATIENCE) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    except (OSError, ValueError) as error:
        return bad(
            "fulfillment URL",
            f"{url} does not answer",
            cause=type(error).__name__,
            fix="Is the site up under SITE_URL, with a certificate that browsers take? AWS asks it too.",
        )
    if status != 200:
        return bad(
            "fulfillment URL",
            f"{url} answers {status}",
            cause="AWS takes a fulfillment URL that answers 200, without a redirect.",
            fix="Correct SITE_URL, ALLOWED_HOSTS and, behind a proxy, TRUSTED_PROXY_COUNT.",
        )
    return good("fulfillment URL", f"{url} answers 200: give exactly this address to the listing")


def _secrets() -> Iterator[Finding]:
    if settings.DEBUG:
        yield open_question("secrets", "Secrets are not looked at while DEBUG is on")
        return
    weak = [
        name
        for name in ("SECRET_KEY", "AUDIT_KEY")
        if len(getattr(settings, name)) < 50 or len(set(getattr(settings, name))) < 10
    ]
    if settings.SECRET_KEY == settings.AUDIT_KEY:
        weak = ["SECRET_KEY and AUDIT_KEY, which are the same"]
    if weak:
        yield bad(
            "secrets",
            f"Weak: {', '.join(weak)}",
            cause="Who guesses SECRET_KEY signs in as anybody; AUDIT_KEY is what the audit trail rests on.",
            fix="python3 -c 'import secrets; print(secrets.token_urlsafe(50))', once for each.",
        )
    else:
        yield good("secrets", "Secrets: long, and each its own")
    if settings.SECRET_KEY_FALLBACKS:
        yield open_question(
            "old secrets",
            "SECRET_KEY_FALLBACKS still takes old secrets",
            fix="Empty it two weeks after the change of SECRET_KEY, when sessions have ended.",
        )


def _deployment() -> Iterator[Finding]:
    if settings.DEBUG:
        yield open_question("deployment", "Django's deployment checks are not run while DEBUG is on")
        return
    found = [
        message
        for message in checks.run_checks(include_deployment_checks=True)
        if message.level >= checks.WARNING and not message.is_silenced()
    ]
    for message in found:
        yield bad(
            "deployment", f"{message.id}: {message.msg}", fix=message.hint or "manage.py check --deploy"
        )
    if not found:
        yield good("deployment", "Django's deployment checks have nothing to say")

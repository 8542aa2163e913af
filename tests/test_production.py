"""With DEBUG off the project starts safe or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from marketplace_saas import production

SAFE = {
    "DEBUG": False,
    "SECRET_KEY": "s" * 50,
    "AUDIT_KEY": "a" * 50,
    "ALLOWED_HOSTS": ["app.acme.example"],
    "ADMINS": [("Operators", "ops@acme.example")],
    "SITE_URL": "https://app.acme.example",
    "DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql"}},
    "REDIS_URL": "redis://redis:6379/0",
    "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
    "MARKETPLACE_EVENT_QUEUES": ["https://sqs.us-east-1.amazonaws.com/123456789012/events"],
}
ENVIRONMENT = {
    "DEBUG": "false",
    "SECRET_KEY": "a secret of production: " + "0123456789" * 5,
    "AUDIT_KEY": "another one: " + "0123456789" * 5,
    "ALLOWED_HOSTS": "app.acme.example",
    "ADMIN_EMAILS": "ops@acme.example",
    "SITE_URL": "https://app.acme.example",
    "DATABASE_URL": "postgres://app@127.0.0.1:1/app",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "EMAIL_URL": "smtp+tls://user:password@mail.acme.example:587",
    "MARKETPLACE_EVENT_QUEUES": "https://sqs.us-east-1.amazonaws.com/123456789012/events",
}


def refuse(environment: dict[str, str] | None = None, **changes: object) -> None:
    production.refuse_unsafe({**SAFE, "env": SimpleNamespace(ENVIRON=environment or {}), **changes})


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The project as a fresh process that knows only these variables."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=settings.BASE_DIR,
        env={"PATH": os.environ["PATH"], "ENV_FILE": "", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_safe_values_start():
    refuse()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"SECRET_KEY": production.DEVELOPMENT_SECRET}, "SECRET_KEY"),
        ({"SECRET_KEY": "s" * 49}, "SECRET_KEY"),
        ({"AUDIT_KEY": ""}, "AUDIT_KEY"),
        ({"ALLOWED_HOSTS": []}, "ALLOWED_HOSTS"),
        ({"ALLOWED_HOSTS": ["app.acme.example", "*"]}, "ALLOWED_HOSTS"),
        ({"ADMINS": []}, "ADMIN_EMAILS"),
        ({"SITE_URL": "http://app.acme.example"}, "SITE_URL"),
        ({"DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3"}}}, "DATABASE_URL"),
        ({"REDIS_URL": ""}, "REDIS_URL"),
        ({"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}, "EMAIL_URL"),
        ({"MARKETPLACE_EVENT_QUEUES": ["http://127.0.0.1:8300/0/events"]}, "MARKETPLACE_EVENT_QUEUES"),
        ({"environment": {"AWS_ENDPOINT_URL": "http://127.0.0.1:8300"}}, "AWS_ENDPOINT_URL"),
        ({"environment": {"AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:8300"}}, "AWS_ENDPOINT_URL_SQS"),
        ({"environment": {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:8300"}}, "AWS_ENDPOINT_URL_STS"),
        (
            {"environment": {"AWS_ENDPOINT_URL_MARKETPLACE_METERING": "http://127.0.0.1:8300"}},
            "AWS_ENDPOINT_URL_MARKETPLACE_METERING",
        ),
        (
            {"environment": {"AWS_ENDPOINT_URL_MARKETPLACE_ENTITLEMENT_SERVICE": "http://127.0.0.1:8300"}},
            "AWS_ENDPOINT_URL_MARKETPLACE_ENTITLEMENT_SERVICE",
        ),
        (
            {"environment": {"AWS_ENDPOINT_URL_MARKETPLACE_AGREEMENT": "http://127.0.0.1:8300"}},
            "AWS_ENDPOINT_URL_MARKETPLACE_AGREEMENT",
        ),
    ],
)
def test_each_unsafe_value_is_named_alone(changes, named):
    with pytest.raises(ImproperlyConfigured) as refused:
        refuse(**changes)

    problems = [line[2:] for line in str(refused.value).splitlines() if line.startswith("- ")]
    assert [problem.split()[0] for problem in problems] == [named]


def test_a_laptop_may_be_unsafe():
    refuse(DEBUG=True, SECRET_KEY="", ALLOWED_HOSTS=[])


def test_no_endpoint_of_the_simulator_is_overlooked(simulator):
    for name, value in simulator.endpoint_env.items():
        with pytest.raises(ImproperlyConfigured, match=name):
            refuse({name: value})


def test_without_any_value_the_start_is_refused_with_every_problem_at_once():
    started = run("manage.py", "check")

    assert started.returncode != 0
    for name in (
        "SECRET_KEY",
        "AUDIT_KEY",
        "ALLOWED_HOSTS",
        "ADMIN_EMAILS",
        "SITE_URL",
        "DATABASE_URL",
        "REDIS_URL",
        "EMAIL_URL",
    ):
        assert f"\n- {name} " in started.stderr
    assert "On a laptop, set DEBUG=true" in started.stderr
    assert production.DEVELOPMENT_SECRET not in started.stderr


@pytest.mark.parametrize(
    "entry", ["marketplace_saas.wsgi", "marketplace_saas.asgi", "marketplace_saas.celery"]
)
def test_servers_and_workers_refuse_too(entry):
    started = run("-c", f"import {entry}; from django.conf import settings; settings.DEBUG")

    assert started.returncode != 0
    assert "Refusing to start with DEBUG off" in started.stderr


def test_production_like_values_pass_the_deployment_checks():
    started = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", **ENVIRONMENT)

    assert started.returncode == 0, started.stderr
    assert "no issues" in started.stdout


def test_log_level_debug_does_not_open_the_loggers_that_would_print_tokens():
    names = ["django.db", "botocore.endpoint", "urllib3.connectionpool", "django.template"]
    program = (
        "import django, logging; django.setup();"
        f"print([name for name in {names} if logging.getLogger(name).isEnabledFor(logging.DEBUG)])"
    )

    started = run(
        "-c", program, **ENVIRONMENT, LOG_LEVEL="DEBUG", DJANGO_SETTINGS_MODULE="marketplace_saas.settings"
    )

    assert started.stdout.strip() == "['django.db']", started.stderr

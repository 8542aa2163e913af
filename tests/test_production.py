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

SECRET = "0123456789abcdefghijklmnopqrstuvwxyz0123456789ABCD"
SAFE = {
    "DEBUG": False,
    "SECRET_KEY": SECRET,
    "SECRET_KEY_FALLBACKS": [],
    "AUDIT_KEY": SECRET[::-1],
    "STATUS_TOKEN": "",
    "CSRF_TRUSTED_ORIGINS": [],
    "TRUSTED_PROXY_COUNT": 1,
    "ALLOWED_HOSTS": ["app.acme.example"],
    "ADMINS": [("Operators", "ops@acme.example")],
    "SUPPORT_EMAIL": "help@acme.example",
    "DEFAULT_FROM_EMAIL": "Acme <help@acme.example>",
    "SITE_URL": "https://app.acme.example",
    "DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql"}},
    "REDIS_URL": "redis://redis:6379/0",
    "CELERY_BROKER_URL": "redis://redis:6379/0",
    "CACHES": {"default": {"BACKEND": "marketplace_saas.cache.RedisCache"}},
    "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
    "MARKETPLACE_EVENT_QUEUES": ["https://sqs.us-east-1.amazonaws.com/123456789012/events"],
}
ENVIRONMENT = {
    "DEBUG": "false",
    "SECRET_KEY": "a secret of production: " + "0123456789" * 5,
    "AUDIT_KEY": "another one: " + "0123456789" * 5,
    "ALLOWED_HOSTS": "app.acme.example",
    "ADMIN_EMAILS": "ops@acme.example",
    "SUPPORT_EMAIL": "help@acme.example",
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
        ({"SECRET_KEY": SECRET[:49]}, "SECRET_KEY"),
        ({"SECRET_KEY": "s" * 80}, "SECRET_KEY"),
        ({"SECRET_KEY": "django-insecure-" + SECRET}, "SECRET_KEY"),
        ({"AUDIT_KEY": ""}, "AUDIT_KEY"),
        ({"AUDIT_KEY": production.DEVELOPMENT_SECRET}, "AUDIT_KEY"),
        ({"AUDIT_KEY": SECRET}, "AUDIT_KEY"),
        ({"SECRET_KEY_FALLBACKS": [SECRET + "old", "short"]}, "SECRET_KEY_FALLBACKS"),
        ({"SECRET_KEY_FALLBACKS": [production.DEVELOPMENT_SECRET]}, "SECRET_KEY_FALLBACKS"),
        ({"STATUS_TOKEN": "guess-me"}, "STATUS_TOKEN"),
        ({"STATUS_TOKEN": "x" * 64}, "STATUS_TOKEN"),
        ({"ALLOWED_HOSTS": []}, "ALLOWED_HOSTS"),
        ({"ALLOWED_HOSTS": ["app.acme.example", "*"]}, "ALLOWED_HOSTS"),
        ({"ALLOWED_HOSTS": ["*.acme.example"]}, "ALLOWED_HOSTS"),
        ({"ALLOWED_HOSTS": ["other.acme.example"]}, "ALLOWED_HOSTS"),
        ({"ADMINS": []}, "ADMIN_EMAILS"),
        ({"SUPPORT_EMAIL": ""}, "SUPPORT_EMAIL"),
        ({"SUPPORT_EMAIL": production.EXAMPLE_SUPPORT_EMAIL}, "SUPPORT_EMAIL"),
        ({"DEFAULT_FROM_EMAIL": f"Acme <{production.EXAMPLE_SUPPORT_EMAIL}>"}, "DEFAULT_FROM_EMAIL"),
        ({"SITE_URL": "http://app.acme.example"}, "SITE_URL"),
        ({"SITE_URL": "app.acme.example"}, "SITE_URL"),
        (
            {"CSRF_TRUSTED_ORIGINS": ["https://www.acme.example", "http://acme.example"]},
            "CSRF_TRUSTED_ORIGINS",
        ),
        ({"CSRF_TRUSTED_ORIGINS": ["https://*.acme.example"]}, "CSRF_TRUSTED_ORIGINS"),
        ({"TRUSTED_PROXY_COUNT": -1}, "TRUSTED_PROXY_COUNT"),
        ({"DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3"}}}, "DATABASE_URL"),
        ({"DATABASES": {"default": {"ENGINE": "django.db.backends.mysql"}}}, "DATABASE_URL"),
        ({"REDIS_URL": ""}, "REDIS_URL"),
        ({"CELERY_BROKER_URL": "filesystem://localhost"}, "REDIS_URL"),
        ({"CELERY_BROKER_URL": "memory://"}, "REDIS_URL"),
        ({"CACHES": {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}}, "CACHES"),
        ({"EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend"}, "EMAIL_URL"),
        ({"EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend"}, "EMAIL_URL"),
        ({"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}, "EMAIL_URL"),
        ({"MARKETPLACE_EVENT_QUEUES": ["http://127.0.0.1:8300/0/events"]}, "MARKETPLACE_EVENT_QUEUES"),
        ({"environment": {"AWS_ENDPOINT_URL": "http://127.0.0.1:8300"}}, "AWS_ENDPOINT_URL"),
        ({"environment": {"AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:8300"}}, "AWS_ENDPOINT_URL_SQS"),
        ({"environment": {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:8300"}}, "AWS_ENDPOINT_URL_STS"),
        ({"environment": {"AWS_ENDPOINT_URL_SQS": "https://sim.acme.example"}}, "AWS_ENDPOINT_URL_SQS"),
        (
            {"environment": {"AWS_ENDPOINT_URL_EVENTBRIDGE": "http://127.0.0.1:8300"}},
            "AWS_ENDPOINT_URL_EVENTBRIDGE",
        ),
        ({"environment": {"AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:8300"}}, "AWS_ENDPOINT_URL_KMS"),
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
    refuse(DEBUG=True, SECRET_KEY="", ALLOWED_HOSTS=[], SITE_URL="http://localhost:8000")


def test_debug_is_refused_where_buyers_come():
    with pytest.raises(ImproperlyConfigured, match="DEBUG on under https://app.acme.example"):
        refuse(DEBUG=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"ALLOWED_HOSTS": [".acme.example"]},
        {"CSRF_TRUSTED_ORIGINS": ["https://www.acme.example"]},
        {"SECRET_KEY_FALLBACKS": [SECRET + "old"]},
        {"STATUS_TOKEN": SECRET},
        {"CELERY_BROKER_URL": "rediss://redis:6379/0"},
        {"TRUSTED_PROXY_COUNT": 0},
        {"environment": {"AWS_ENDPOINT_URL_KMS": "https://vpce-1.kms.us-east-1.vpce.amazonaws.com"}},
    ],
)
def test_what_is_safe_too_starts(changes):
    refuse(**changes)


def test_no_refusal_shows_a_secret():
    secret = "hunter2-but-long-enough-to-be-noticed"
    with pytest.raises(ImproperlyConfigured) as refused:
        refuse(SECRET_KEY=secret, AUDIT_KEY=secret, STATUS_TOKEN=secret[:9], SECRET_KEY_FALLBACKS=[secret])
    assert "hunter2" not in str(refused.value)


def test_no_endpoint_of_the_simulator_is_overlooked(simulator):
    for name, value in simulator.endpoint_env.items():
        with pytest.raises(ImproperlyConfigured, match=name):
            refuse({name: value})


@pytest.mark.parametrize(
    ("name", "special"), [("EMAIL_URL", "/"), ("EMAIL_URL", "#"), ("EMAIL_URL", "?"), ("DATABASE_URL", "/")]
)
def test_an_address_that_cannot_be_read_is_named_without_its_password(name, special):
    scheme = {"EMAIL_URL": "smtp+tls", "DATABASE_URL": "postgres"}[name]
    started = run(
        "manage.py",
        "check",
        **{**ENVIRONMENT, name: f"{scheme}://user:hunt{special}er2@db.acme.example:5432/x"},
    )
    assert started.returncode != 0
    assert f"{name} cannot be read. Percent-encode" in started.stderr
    assert "hunt" not in started.stderr
    assert "er2" not in started.stderr


def test_hosts_below_the_sites_own_can_be_left_alone():
    names = "s.SECURE_HSTS_INCLUDE_SUBDOMAINS, s.SECURE_HSTS_PRELOAD"
    show = f"from django.conf import settings as s; print({names})"
    checked = ("manage.py", "check", "--deploy", "--fail-level", "WARNING")
    assert run("manage.py", "shell", "-v0", "-c", show, **ENVIRONMENT).stdout.strip() == "True True"
    less = {**ENVIRONMENT, "SECURE_HSTS_INCLUDE_SUBDOMAINS": "false"}
    assert run("manage.py", "shell", "-v0", "-c", show, **less).stdout.strip() == "False False"
    assert "W005" not in run(*checked, **less).stderr


def test_without_any_value_the_start_is_refused_with_every_problem_at_once():
    started = run("manage.py", "check")

    assert started.returncode != 0
    for name in (
        "SECRET_KEY",
        "AUDIT_KEY",
        "ALLOWED_HOSTS",
        "ADMIN_EMAILS",
        "SUPPORT_EMAIL",
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

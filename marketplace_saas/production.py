"""What production must not run with. Called once, at the end of the settings."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.http.request import validate_host

# Good enough on a laptop, known to everyone, refused in production.
DEVELOPMENT_SECRET = "insecure-development-secret-refused-when-debug-is-off"
# The example seller's, whom nobody reads.
EXAMPLE_SUPPORT_EMAIL = "support@acme.example"
_LEAST_SECRET = 50
_LEAST_TOKEN = 20
_LEAST_CHARACTERS = 10  # different ones: Django itself warns below five

_SIMULATED_SERVICES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_MARKETPLACE_METERING",
    "AWS_ENDPOINT_URL_MARKETPLACE_ENTITLEMENT_SERVICE",
    "AWS_ENDPOINT_URL_MARKETPLACE_AGREEMENT",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT_URL_EVENTBRIDGE",
)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """What goes wrong with an address of ``name`` says what to do, and nothing of the password in it."""
    try:
        yield
    except ValueError:
        raise ImproperlyConfigured(
            f"{name} cannot be read. Percent-encode what is special in an address where it stands in the user"
            " or the password: / is %2F, # is %23, ? is %3F, @ is %40, : is %3A, % is %25."
        ) from None


def refuse_unsafe(settings: dict[str, Any]) -> None:
    """Raise ImproperlyConfigured with every problem at once, each with its fix."""
    if settings["DEBUG"]:
        if settings["SITE_URL"].startswith("https://"):
            raise ImproperlyConfigured(
                f"Refusing to start with DEBUG on under {settings['SITE_URL']}: it shows everybody every mail"
                " and every error. Set DEBUG=false, or SITE_URL to this laptop's own http://localhost:…"
            )
        return
    problems = list(_problems(settings))
    if problems:
        raise ImproperlyConfigured(
            "Refusing to start with DEBUG off:\n- "
            + "\n- ".join(problems)
            + "\nThe values are described in .env.example. On a laptop, set DEBUG=true or use `make run`."
        )


def _problems(settings: Mapping[str, Any]) -> Iterator[str]:
    yield from _secrets(settings)
    yield from _hosts(settings)
    if not settings["ADMINS"]:
        yield "ADMIN_EMAILS is missing: alarms must reach a person"
    for name in ("SUPPORT_EMAIL", "DEFAULT_FROM_EMAIL"):
        if "@" not in settings[name] or EXAMPLE_SUPPORT_EMAIL in settings[name]:
            yield f"{name} is missing or the example's: buyers write to it, mail servers look at the sender"
    yield from _services(settings)
    yield from _aws(settings)


def _secrets(settings: Mapping[str, Any]) -> Iterator[str]:
    for name in ("SECRET_KEY", "AUDIT_KEY"):
        if _is_weak(settings[name]):
            yield (
                f"{name} is missing, well known, or shorter than {_LEAST_SECRET} characters:"
                " set it to a long random value"
            )
    if settings["SECRET_KEY"] == settings["AUDIT_KEY"] and not _is_weak(settings["AUDIT_KEY"]):
        yield "AUDIT_KEY is the same as SECRET_KEY: who learns one must not have the other"
    if any(_is_weak(key) for key in settings["SECRET_KEY_FALLBACKS"]):
        yield "SECRET_KEY_FALLBACKS takes a weak or well-known key: what it signed is anybody's, leave it out"
    token = settings["STATUS_TOKEN"]
    if token and (len(token) < _LEAST_TOKEN or len(set(token)) < _LEAST_CHARACTERS):
        yield f"STATUS_TOKEN is shorter than {_LEAST_TOKEN} characters or easily guessed: make it random"


def _is_weak(secret: str) -> bool:
    return (
        len(secret) < _LEAST_SECRET
        or len(set(secret)) < _LEAST_CHARACTERS
        or "insecure" in secret  # Django's own startproject says so too
    )


def _hosts(settings: Mapping[str, Any]) -> Iterator[str]:
    hosts, site = settings["ALLOWED_HOSTS"], urlsplit(settings["SITE_URL"])
    if not hosts:
        yield "ALLOWED_HOSTS is empty: set it to the host name of SITE_URL"
    elif any("*" in host for host in hosts):
        yield "ALLOWED_HOSTS takes any host name: set it to the host name of SITE_URL"
    elif site.scheme == "https" and not validate_host(site.hostname or "", hosts):
        yield f"ALLOWED_HOSTS lacks {site.hostname}, the host name of SITE_URL"
    if site.scheme != "https" or not site.hostname:
        yield "SITE_URL must start with https:// and name a host"
    for origin in settings["CSRF_TRUSTED_ORIGINS"]:
        if not origin.startswith("https://") or "*" in origin:
            yield f"CSRF_TRUSTED_ORIGINS names {origin}: only single https:// origins may post forms here"
    if settings["TRUSTED_PROXY_COUNT"] < 0:
        yield "TRUSTED_PROXY_COUNT is the number of proxies before the app: 0 or more"


def _services(settings: Mapping[str, Any]) -> Iterator[str]:
    if "sqlite" in settings["DATABASES"]["default"]["ENGINE"]:
        yield "DATABASE_URL is SQLite: set it to a PostgreSQL address, postgres://…"
    elif "postgresql" not in settings["DATABASES"]["default"]["ENGINE"]:
        yield "DATABASE_URL is no PostgreSQL address, postgres://…: the ledger's triggers are written for it"
    if not settings["REDIS_URL"]:
        yield "REDIS_URL is missing: rate limits and the job queue are shared through Redis"
    else:
        if not settings["CELERY_BROKER_URL"].startswith(("redis://", "rediss://")):
            yield "REDIS_URL is no address of Redis, redis://… or rediss://…: jobs would stay on one machine"
        if "locmem" in settings["CACHES"]["default"]["BACKEND"]:
            yield "CACHES is this process's own memory: rate limits would count in each process apart"
    if not settings["EMAIL_BACKEND"].endswith("smtp.EmailBackend"):
        yield "EMAIL_URL must name a mail server, smtp+tls://…: buyers sign in with mailed codes"


def _aws(settings: Mapping[str, Any]) -> Iterator[str]:
    environment = settings["env"].ENVIRON
    for url in settings["MARKETPLACE_EVENT_QUEUES"]:
        if not url.startswith("https://"):
            yield f"MARKETPLACE_EVENT_QUEUES names {url}: an SQS address starts with https://"
    for name in sorted(environment):
        # Of other services too: nothing that this process asks AWS may be read or answered on the way.
        plain = name.startswith("AWS_ENDPOINT_URL") and environment[name].startswith("http://")
        if (name in _SIMULATED_SERVICES and environment[name]) or plain:
            yield f"{name} points at {environment[name]}: remove it, it is how the simulator is reached"

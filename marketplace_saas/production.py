"""What production must not run with. Called once, at the end of the settings."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured

# Good enough on a laptop, known to everyone, refused in production.
DEVELOPMENT_SECRET = "insecure-development-secret-refused-when-debug-is-off"

_SIMULATED_SERVICES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_MARKETPLACE_METERING",
    "AWS_ENDPOINT_URL_MARKETPLACE_ENTITLEMENT_SERVICE",
    "AWS_ENDPOINT_URL_MARKETPLACE_AGREEMENT",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_ENDPOINT_URL_STS",
)


def refuse_unsafe(settings: dict[str, Any]) -> None:
    """Raise ImproperlyConfigured with every problem at once, each with its fix."""
    if settings["DEBUG"]:
        return
    problems = list(_problems(settings))
    if problems:
        raise ImproperlyConfigured(
            "Refusing to start with DEBUG off:\n- "
            + "\n- ".join(problems)
            + "\nThe values are described in .env.example. On a laptop, set DEBUG=true or use `make run`."
        )


def _problems(settings: dict[str, Any]) -> list[str]:
    environment = settings["env"].ENVIRON
    secrets = {name: settings[name] for name in ("SECRET_KEY", "AUDIT_KEY")}
    found = [
        f"{name} is missing or shorter than 50 characters: set it to a long random value"
        for name, value in secrets.items()
        if value == DEVELOPMENT_SECRET or len(value) < 50
    ]
    if not settings["ALLOWED_HOSTS"]:
        found.append("ALLOWED_HOSTS is empty: set it to the host name of SITE_URL")
    if "*" in settings["ALLOWED_HOSTS"]:
        found.append("ALLOWED_HOSTS takes any host name: set it to the host name of SITE_URL")
    if not settings["ADMINS"]:
        found.append("ADMIN_EMAILS is missing: alarms must reach a person")
    if not settings["SITE_URL"].startswith("https://"):
        found.append("SITE_URL must start with https://")
    if "sqlite" in settings["DATABASES"]["default"]["ENGINE"]:
        found.append("DATABASE_URL is SQLite: set it to a PostgreSQL address, postgres://…")
    if not settings["REDIS_URL"]:
        found.append("REDIS_URL is missing: rate limits and the job queue are shared through Redis")
    found += [
        f"MARKETPLACE_EVENT_QUEUES names {url}: an SQS address starts with https://"
        for url in settings["MARKETPLACE_EVENT_QUEUES"]
        if not url.startswith("https://")
    ]
    if not settings["EMAIL_BACKEND"].endswith("smtp.EmailBackend"):
        found.append("EMAIL_URL must name a mail server, smtp+tls://…: buyers sign in with mailed codes")
    found += [
        f"{name} points at {environment[name]}: remove it, it is how the simulator is reached"
        for name in _SIMULATED_SERVICES
        if environment.get(name)
    ]
    return found

"""Every setting, in one file. Values come from the environment; `.env.example` lists them all.

Nothing here guesses in production: with DEBUG off, a value that is missing or unsafe stops the start
(`production.py` names it and says what to set).
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import environ
from celery.schedules import crontab
from csp.constants import NONE, SELF
from django.utils.translation import gettext_lazy as _

from marketplace_saas import production, social

BASE_DIR = Path(__file__).resolve().parent.parent

# The demo and the tests set ENV_FILE to nothing: they never see a developer's own values.
env = environ.Env()  # type: ignore[no-untyped-call]  # environ is partly annotated
_env_file = os.environ.get("ENV_FILE", str(BASE_DIR / ".env"))
if _env_file and Path(_env_file).exists():
    env.read_env(_env_file)

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default=production.DEVELOPMENT_SECRET)
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
# Signs the audit chains. Apart from SECRET_KEY, so that rotating that one does not break old links.
AUDIT_KEY = env.str("AUDIT_KEY", default=production.DEVELOPMENT_SECRET)
# `manage.py export_audit --remove` leaves younger links alone. The database keeps them for a year at least.
AUDIT_KEPT_FOR = timedelta(days=env.int("AUDIT_KEPT_DAYS", default=365))

# The one address buyers use. Mails and the sign-in cookies follow it.
SITE_URL = env.str("SITE_URL", default="http://localhost:8000").rstrip("/")
# For alarms: who sends it as a bearer token may read /status. Empty: operators only.
STATUS_TOKEN = env.str("STATUS_TOKEN", default="")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1"] if DEBUG else [])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
TRUSTED_PROXY_COUNT = env.int("TRUSTED_PROXY_COUNT", default=0)

# Where a laptop keeps what production keeps in PostgreSQL, Redis and a mail server.
DATA_DIR = BASE_DIR / env.str("DATA_DIR", default=".run")

# --- Who the seller is -----------------------------------------------------------------------------------
SITE_NAME = env.str("SITE_NAME", default="Acme Reports")
SUPPORT_EMAIL = env.str("SUPPORT_EMAIL", default=production.EXAMPLE_SUPPORT_EMAIL)
MARKETPLACE_LISTING_URL = env.str(
    "MARKETPLACE_LISTING_URL", default="https://aws.amazon.com/marketplace/search/results?searchTerms=saas"
)
# Who is told of new, changed, ended and never-registered purchases; else SUPPORT_EMAIL.
SELLER_EMAILS = env.list("SELLER_EMAILS", default=[])
# Links at the foot of every page and below the sign-up form; none where they are empty.
TERMS_URL = env.str("TERMS_URL", default="")
PRIVACY_URL = env.str("PRIVACY_URL", default="")
SIGNUP_WITHOUT_PURCHASE = env.bool("SIGNUP_WITHOUT_PURCHASE", default=True)

# --- What the product sells ------------------------------------------------------------------------------
# The products and dimensions of the AWS listing: `manage.py load_catalog` copies the file to the database.
MARKETPLACE_CATALOG = Path(
    env.str("MARKETPLACE_CATALOG", default=str(BASE_DIR / "marketplace_saas/catalog.json"))
)

# Feature -> what grants it. `dimensions`: an entitlement to any of them. `products`: a subscription has no
# entitlements, so an active agreement of one of these product codes is enough. `quota`: the dimension whose
# quantity is the limit. `count`: what counts a thing that `gates.reserve` limits (else metered usage counts).
# `outage`: when an entitlement has run out and AWS cannot be asked whether it was renewed, the feature stays
# "open", is "closed", or is open for so long.
FEATURES: dict[str, dict[str, Any]] = {
    "reports": {
        "dimensions": ["included_pages", "reports"],
        "products": ["reports-payg", "reports-classic"],
        "quota": "included_pages",
        "outage": timedelta(hours=24),
    },
    # How many members a workspace may have. Without this entry, as many as it likes.
    "seats": {
        "dimensions": ["seats"],
        "products": ["reports-flex", "reports-payg", "reports-classic"],
        "quota": "seats",
        "count": "accounts.organizations.places_taken",
        "outage": "open",
    },
}

# The product's own pages: the name of a URL under /o/<slug>/, and its tab. A purchase that AWS has confirmed
# leads to the first. One whose URL is gone is left out.
PRODUCT_PAGES: list[tuple[str, Any]] = [("example:reports", _("Reports"))]

# What a buyer is asked when a purchase is set up: a subclass of ClaimForm that asks more. docs/onboarding.md.
ONBOARDING_FORM = "billing.forms.ClaimForm"

# --- AWS -------------------------------------------------------------------------------------------------
# Credentials, and in local runs the simulator's address, are botocore's own AWS_* variables.
MARKETPLACE: dict[str, Any] = {
    # Usage of one license-hour must always go to the same Region, or AWS bills it once per Region.
    "metering_region": env.str("MARKETPLACE_METERING_REGION", default="us-east-1"),
    # The role of deploy/aws/marketplace.yaml, in whichever account the app runs.
    "role_arn": env.str("MARKETPLACE_ROLE_ARN", default="") or None,
    "role_external_id": env.str("MARKETPLACE_ROLE_EXTERNAL_ID", default="") or None,
    "describe_agreements": env.bool("MARKETPLACE_DESCRIBE_AGREEMENTS", default=False),
    "connect_timeout": env.float("MARKETPLACE_CONNECT_TIMEOUT", default=3.0),
    "read_timeout": env.float("MARKETPLACE_READ_TIMEOUT", default=10.0),
}
# A record of zero for each hour in which an active buyer used nothing: AWS sees that metering is alive.
METERING_HEARTBEAT = env.bool("METERING_HEARTBEAT", default=False)
# AWS's quota in each Region. 0: as fast as it goes, which no real AWS allows.
METERING_CALLS_PER_SECOND = env.float("METERING_CALLS_PER_SECOND", default=10.0) or None
MARKETPLACE_EVENT_QUEUES = env.list("MARKETPLACE_EVENT_QUEUES", default=[])
# ARNs of the SNS topics that may post to /marketplace/sns/. Empty: the endpoint is off. docs/sns-endpoint.md.
SNS_ENDPOINT_TOPICS = env.list("SNS_ENDPOINT_TOPICS", default=[])

# --- Signing in with an account elsewhere: on for each provider whose two keys are set --------------------
SOCIAL_PROVIDERS = social.providers(
    {
        "google": (env.str("GOOGLE_CLIENT_ID", default=""), env.str("GOOGLE_CLIENT_SECRET", default="")),
        "microsoft": (
            env.str("MICROSOFT_CLIENT_ID", default=""),
            env.str("MICROSOFT_CLIENT_SECRET", default=""),
        ),
        "github": (env.str("GITHUB_CLIENT_ID", default=""), env.str("GITHUB_CLIENT_SECRET", default="")),
    },
    microsoft_tenant=env.str("MICROSOFT_TENANT", default="common"),
)

# --- Applications ----------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.usersessions",
    *(provider.app for provider in SOCIAL_PROVIDERS),
    "csp",
    "accounts",
    "billing",
    "marketplace_saas",
]

MIDDLEWARE = [
    "marketplace_saas.request_id.RequestIdMiddleware",
    "marketplace_saas.logs.AccessLogMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "marketplace_saas.headers.PermissionsPolicyMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "marketplace_saas.health.ProbesMiddleware",
    "marketplace_saas.cache.OutageMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "marketplace_saas.body_size.BodySizeMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.preferences.PreferencesMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "allauth.usersessions.middleware.UserSessionsMiddleware",
]

ROOT_URLCONF = "marketplace_saas.urls"
WSGI_APPLICATION = "marketplace_saas.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates", BASE_DIR / "marketplace_saas/example/templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.debug",
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "marketplace_saas.context.site",
            ],
        },
    },
]

# The look of the operators' console; its pages are in billing/admin/.
UNFOLD = {
    "SITE_SYMBOL": "monitor_heart",
    "SIDEBAR": {"navigation": "billing.admin.navigation.sidebar"},
}

# --- Data ------------------------------------------------------------------------------------------------
if DEBUG:
    for _folder in ("mail", "broker/messages", "broker/control"):
        (DATA_DIR / _folder).mkdir(parents=True, exist_ok=True)

with production.explained("DATABASE_URL"):
    DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # IMMEDIATE: a transaction that will write takes its lock at the start, so that two writers queue
    # instead of failing half way. WAL: readers never wait for the writer.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = env.int("DATABASE_CONN_MAX_AGE", default=60)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    # `usage.record` and gates are planned once per connection. docs/metering.md says what a pooler needs.
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault("prepare_threshold", 5)
    # A server that does not answer at all must not hold every thread.
    DATABASES["default"]["OPTIONS"].setdefault("connect_timeout", 5)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# `manage.py archive_usage` moves settled usage of older months to files in this directory, which must last.
USAGE_KEPT_MONTHS = env.int("USAGE_KEPT_MONTHS", default=13)
USAGE_ARCHIVE_DIR = env.str("USAGE_ARCHIVE_DIR", default=str(DATA_DIR / "usage-archive") if DEBUG else "")

REDIS_URL = env.str("REDIS_URL", default="")
CACHES: dict[str, dict[str, Any]] = {
    "default": (
        {
            "BACKEND": "marketplace_saas.cache.RedisCache",
            "LOCATION": REDIS_URL,
            "OPTIONS": {"socket_connect_timeout": 2, "socket_timeout": 2},
        }
        if REDIS_URL
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    )
}

# --- Background work: database rows are the queue, Celery only rings the bell -----------------------------
CELERY_BROKER_URL = REDIS_URL or "filesystem://localhost"
if REDIS_URL:
    # A request that rings the bell must not hang on a broker that is gone.
    CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {"socket_connect_timeout": 3}
else:
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(DATA_DIR / "broker/messages"),
        "data_folder_out": str(DATA_DIR / "broker/messages"),
        "control_folder": str(DATA_DIR / "broker/control"),
    }
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_TIME_LIMIT = 900
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker outlives any outage of Redis
# A long submission must not sit on other tasks; they would wait for it beside an idle process.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat-schedule")


def _every(task: str, every: timedelta) -> dict[str, Any]:
    # A bell rung while nobody listened is worthless once the next one rings.
    return {"task": task, "schedule": every, "options": {"expires": every.total_seconds()}}


CELERY_BEAT_SCHEDULE: dict[str, Any] = {
    "poll-events": _every("billing.tasks.poll_events", timedelta(seconds=20)),
    "run-effects": _every("billing.tasks.run_effects", timedelta(minutes=1)),
    "advance-lifecycles": _every("billing.tasks.advance_lifecycles", timedelta(minutes=1)),
    "sync-entitlements": _every("billing.tasks.sync_entitlements", timedelta(hours=1)),
    "close-hours": {
        "task": "billing.tasks.close_hours",
        "schedule": crontab(minute=5),
        "options": {"expires": 3000},
    },
    "submit-metering": _every("billing.tasks.submit_metering", timedelta(minutes=5)),
    "run-operator-tasks": _every("billing.tasks.run_operator_tasks", timedelta(minutes=1)),
    "watch-deadlines": _every("billing.tasks.watch_deadlines", timedelta(minutes=5)),
    "note-audit-heads": {
        "task": "billing.tasks.note_audit_heads",
        "schedule": crontab(hour=0, minute=20),
        "options": {"expires": 3600 * 12},
    },
}

# --- People ----------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
# What billing may decide about people: see accounts/adapter.py.
ACCOUNTS_ADAPTER = "billing.accounts_adapter.BillingAccountsAdapter"

LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "accounts:home"
LOGOUT_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "accounts.signup.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True
ACCOUNT_PASSWORD_RESET_BY_CODE_ENABLED = True
# Who has forgotten a password, or never had one, signs in with a mailed code. A second factor is asked all
# the same, and whoever reads the mailbox could set a new password anyway.
ACCOUNT_LOGIN_BY_CODE_ENABLED = True
ACCOUNT_LOGIN_BY_CODE_SUPPORTS_RESEND = True
ACCOUNT_LOGIN_BY_CODE_TIMEOUT = ACCOUNT_PASSWORD_RESET_BY_CODE_TIMEOUT = 15 * 60  # seconds: mail can be slow
# Who finds a browser signed in cannot take the account over by adding an address or an account elsewhere.
ACCOUNT_REAUTHENTICATION_REQUIRED = True
# Changes that matter to an account are told by mail.
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_FORMS = {
    "login": "accounts.sign_in_forms.LoginForm",
    "change_password": "accounts.sign_in_forms.ChangePasswordForm",
    "reset_password_from_key": "accounts.sign_in_forms.ResetPasswordKeyForm",
}
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = True
ACCOUNT_DEFAULT_HTTP_PROTOCOL = SITE_URL.partition("://")[0]
ALLAUTH_TRUSTED_PROXY_COUNT = TRUSTED_PROXY_COUNT
# Added to allauth's own limits: arrivals from AWS, by client address; asking to join, which mails the owners;
# inviting, by address; exports, which read everything; codes that prove who is signed in.
ACCOUNT_RATE_LIMITS = {
    "marketplace_register": "30/m/ip",
    "join_request": "10/h/user",
    "create_organization": "10/h/user",
    "invite": "200/h/user",
    "export": "10/h/user",
    "proof_code": "10/h/user",
}
SOCIALACCOUNT_ADAPTER = "accounts.signup.SocialAccountAdapter"
SOCIALACCOUNT_PROVIDERS = {provider.id: provider.options for provider in SOCIAL_PROVIDERS}
# An address that a provider vouches for opens no account that is here already: somebody may have made one
# elsewhere with another's address, or have been handed an old one's. Its owner signs in here first and then
# connects the two. An address that the provider has not verified is verified by us, with a code.
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False
SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = False
# A link that somebody else sent signs nobody in: it takes a button, and its CSRF token.
SOCIALACCOUNT_LOGIN_ON_GET = False
SOCIALACCOUNT_STORE_TOKENS = False
MFA_FORMS = {
    "add_webauthn": "accounts.sign_in_forms.AddKeyForm",
    "edit_webauthn": "accounts.sign_in_forms.RenameKeyForm",
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = DEBUG
MFA_TOTP_ISSUER = SITE_NAME

# --- Mail ------------------------------------------------------------------------------------------------
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default=SUPPORT_EMAIL)
SERVER_EMAIL = DEFAULT_FROM_EMAIL
EMAIL_TIMEOUT = 10  # seconds: a mail server that hangs must not hold the worker
# Who is told when a job needs a person: a comma-separated list of addresses.
ADMINS = [("Operators", address) for address in env.list("ADMIN_EMAILS", default=[])]
if DEBUG and not env.str("EMAIL_URL", default=""):
    # Written to files that /outbox/ shows: sign-in codes can be read on a laptop without a mail server.
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = DATA_DIR / "mail"
else:
    with production.explained("EMAIL_URL"):
        vars().update(env.email("EMAIL_URL", default="consolemail://"))

# --- Language and time: stored in UTC, always -------------------------------------------------------------
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ko", "한국어")]
LOCALE_PATHS = [BASE_DIR / "marketplace_saas/locale"]
FORMAT_MODULE_PATH = ["marketplace_saas.formats"]
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_AGE = 31_536_000  # seconds: a year
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

# --- Static files ----------------------------------------------------------------------------------------
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "django.contrib.staticfiles.storage.StaticFilesStorage"
            if DEBUG
            else "whitenoise.storage.CompressedManifestStaticFilesStorage"
        )
    },
}

# --- Security --------------------------------------------------------------------------------------------
_https = SITE_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = _https
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=_https)
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=31_536_000 if _https else 0)
# Also for every host below that of SITE_URL, whoever serves it; then for browsers' own lists, too.
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("SECURE_HSTS_INCLUDE_SUBDOMAINS", default=_https)
SECURE_HSTS_PRELOAD = SECURE_HSTS_INCLUDE_SUBDOMAINS
if not SECURE_HSTS_INCLUDE_SUBDOMAINS:
    SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # they ask for what was decided against
# Asked over plain HTTP from inside: by a load balancer, by the container itself, by Prometheus.
SECURE_REDIRECT_EXEMPT = ["^healthz$", "^readyz$", "^status$"]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if TRUSTED_PROXY_COUNT:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
# Of the admin's uploads, by operators: AWS's usage reports.
OPERATOR_UPLOAD_MAX_SIZE = 110 * 1024 * 1024
PERMISSIONS_POLICY = {
    **dict.fromkeys(
        [
            "accelerometer",
            "autoplay",
            "browsing-topics",
            "camera",
            "display-capture",
            "encrypted-media",
            "geolocation",
            "gyroscope",
            "hid",
            "idle-detection",
            "local-fonts",
            "magnetometer",
            "microphone",
            "midi",
            "payment",
            "picture-in-picture",
            "screen-wake-lock",
            "serial",
            "usb",
            "xr-spatial-tracking",
        ],
        "()",
    ),
    # Passkeys.
    "publickey-credentials-create": "(self)",
    "publickey-credentials-get": "(self)",
}
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        # Chromium holds the redirects of a form against it: signing in elsewhere leaves through one.
        "form-action": [SELF, *(origin for provider in SOCIAL_PROVIDERS for origin in provider.origins)],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

# --- Logs: to standard output, errors also to ADMINS by mail ----------------------------------------------
DEFAULT_EXCEPTION_REPORTER_FILTER = "billing.error_reports.ErrorReportFilter"
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
# json: an object on each line, for machines; line: for people.
LOG_FORMAT = env.str("LOG_FORMAT", default="line" if DEBUG else "json")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "{asctime} {levelname} {request_id} {name} {message}", "style": "{"},
        "json": {"()": "marketplace_saas.logs.JsonFormatter"},
    },
    "filters": {
        "in_production": {"()": "django.utils.log.RequireDebugFalse"},
        "request_id": {"()": "marketplace_saas.request_id.RequestIdFilter"},
        "context": {"()": "marketplace_saas.logs.ContextFilter"},
        "redaction": {"()": "marketplace_saas.logs.RedactionFilter"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": LOG_FORMAT,
            "filters": ["request_id", "context", "redaction"],
        },
        "mail": {
            "class": "marketplace_saas.logs.ScrubbedAdminEmails",
            "level": "ERROR",
            "filters": ["in_production", "redaction"],
        },
    },
    "root": {"handlers": ["console", "mail"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": ["console", "mail"], "level": LOG_LEVEL, "propagate": False},
        "gunicorn.error": {"handlers": ["console"], "level": LOG_LEVEL, "propagate": False},
        # Their DEBUG lines hold whole requests and pages, a buyer's registration token included: LOG_LEVEL
        # does not reach them.
        "boto3": {"level": "INFO"},
        "botocore": {"level": "INFO"},
        "urllib3": {"level": "INFO"},
        "django.template": {"level": "INFO"},
    },
}

# Errors to Sentry too, where its package is installed: nothing in them that a log line would not show.
SENTRY_DSN = env.str("SENTRY_DSN", default="")
if SENTRY_DSN:
    import sentry_sdk

    from marketplace_saas.redaction import before_send

    sentry_sdk.init(
        SENTRY_DSN,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        before_send=before_send,
    )

production.refuse_unsafe(vars())

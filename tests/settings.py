"""The project's settings as the tests run them: SQLite unless DATABASE_URL says otherwise."""

import os
import tempfile

os.environ["ENV_FILE"] = ""
os.environ["DEBUG"] = "true"
# The tests have a seller of their own, as they have a catalog: a fork's name is in nobody's way.
os.environ["SITE_NAME"] = "Acme Reports"
os.environ.setdefault("DATA_DIR", tempfile.mkdtemp(prefix="marketplace-saas-tests-"))
# boto3 needs some credentials to sign with; the simulator takes any.
os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")

from marketplace_saas.settings import *  # noqa: F403
from marketplace_saas.settings import BASE_DIR, DATA_DIR, DATABASES

DEBUG = False
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
SITE_URL = "http://testserver"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
MARKETPLACE_CATALOG = BASE_DIR / "tests/catalog.json"
# A code that a test made in the last moment of its half minute is taken in the first of the next.
MFA_TOTP_TOLERANCE = 1
# Here AWS takes calls as they come; what is about its quota asks for it.
METERING_CALLS_PER_SECOND = None
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)
# A real worker that a test starts listens to a queue of its own.
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("TEST_CELERY_QUEUE", "celery")

# A test database on disk: threads and child processes of a test open it too.
if "sqlite" in DATABASES["default"]["ENGINE"]:
    DATABASES["default"]["TEST"] = {"NAME": os.path.join(os.environ["DATA_DIR"], "test.sqlite3")}

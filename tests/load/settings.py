"""The project as production serves it, but on this machine: its simulator, plain HTTP, mail in files."""

import os

os.environ["ENV_FILE"] = ""
os.environ["DEBUG"] = "true"

from marketplace_saas.settings import *  # noqa: F403

DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
# The harness is one client: what limits each buyer would limit them all.
ACCOUNT_RATE_LIMITS = False

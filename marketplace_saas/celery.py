"""The Celery application. What runs when is ``CELERY_BEAT_SCHEDULE`` in the settings."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace_saas.settings")

app = Celery("marketplace_saas")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

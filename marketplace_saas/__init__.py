"""The composition root: settings, urls, Celery, the home page. Only this package knows every app."""

from marketplace_saas.celery import app as celery_app

__all__ = ["celery_app"]

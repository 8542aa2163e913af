"""The Celery application. What runs when is ``CELERY_BEAT_SCHEDULE`` in the settings."""

import os
from contextlib import ExitStack
from typing import Any

from celery import Celery, signals
from django.conf import settings
from django.utils.log import configure_logging

from accounts import log_context
from marketplace_saas import request_id

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace_saas.settings")

app = Celery("marketplace_saas")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# Of the message: which request rang for the task.
_HEADER = "request_id"
_scopes: dict[str, ExitStack] = {}


@signals.setup_logging.connect
def _log_as_the_site_does(**kwargs: Any) -> None:
    """Celery would set up lines of its own, which nothing redacts."""
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)


@signals.before_task_publish.connect
def _name_the_request(headers: dict[str, Any], **kwargs: Any) -> None:
    if request_id.current() != request_id.NOTHING:
        headers[_HEADER] = request_id.current()


@signals.task_prerun.connect
def _begin(task_id: str, task: Any, **kwargs: Any) -> None:
    scope = _scopes[task_id] = ExitStack()
    scope.enter_context(request_id.carried(_rung_by(task.request)))
    scope.enter_context(log_context.fresh(task=task.name, task_id=task_id))


def _rung_by(message: Any) -> str:
    """A worker finds a message's headers among its fields; a task that is called at once has them apart."""
    return str(message.get(_HEADER) or (message.headers or {}).get(_HEADER) or request_id.NOTHING)


@signals.task_postrun.connect
def _end(task_id: str, **kwargs: Any) -> None:
    scope = _scopes.pop(task_id, None)
    if scope is not None:
        scope.close()

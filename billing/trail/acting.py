"""Who does what happens now, for what is audited where no flow was told: signals know rows, not people."""

from __future__ import annotations

from allauth.core import context
from celery import current_task

from accounts.models import User

VISITOR = "visitor"  # somebody who has not signed in
COMMAND = "command"  # a shell, a command or a migration on the machine itself


def actor() -> User | str:
    """As ``audit.record`` takes it: who is signed in, the job that runs, or nobody that can be named."""
    request = context.request  # of allauth's AccountMiddleware
    if request is not None:
        user = getattr(request, "user", None)
        return user if isinstance(user, User) else VISITOR
    if current_task:
        return f"job:{current_task.name.rpartition('.')[2]}"
    return COMMAND

"""How a page answers when a rule is broken."""

from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from accounts.organizations import NotAllowed, RuleBroken


def attempt(request: HttpRequest, act: Callable[[], object], *, done: str) -> bool:
    """Whether ``act`` went through; either way the person is told on the next page.

    What the role forbids no page offers: it is refused with 403.
    """
    try:
        act()
    except NotAllowed as error:
        raise PermissionDenied from error
    except RuleBroken as error:
        messages.error(request, str(error))
        return False
    messages.success(request, done)
    return True

"""What the tests of repairs share: operators of each group, and the pages they press their way through."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group

from accounts.models import User
from billing.models import AuditEvent, OperatorTask

REASON = "agreed with finance"


def in_group(make_user: Callable[..., User], name: str, *, number: int = 1) -> User:
    """Staff with a second factor, in the group of that name ('' for none)."""
    email = f"{name.replace(' ', '-').lower() or 'nobody'}-{number}@seller.example"
    user = make_user(email, is_staff=True)
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={"secret": "x"})
    if name:
        user.groups.add(Group.objects.get(name=name))
    return user


def ask(client: Any, repair: str, *rows: Any, **fields: str) -> Any:
    """Press the button on the rows' pages."""
    data = {"row": [getattr(row, "pk", row) for row in rows], **fields}
    return client.post(f"/admin/billing/operatortask/ask/{repair}/", data)


def token_of(page: Any) -> str:
    found = re.search(r'name="token" value="([^"]+)"', page.content.decode())
    assert found, page.content.decode()[-3000:]
    return found[1]


def confirm(client: Any, page: Any, *, reason: str = REASON, **fields: str) -> Any:
    """Press the button of the page that asks."""
    url = page.context["url"]
    return client.post(url, {"token": token_of(page), "reason": reason, **fields})


def repair(client: Any, name: str, *rows: Any, **answers: str) -> OperatorTask:
    page = ask(client, name, *rows)
    if answers:
        page = confirm(client, page, reason="", **answers)
    response = confirm(client, page)
    assert response.status_code == 302, response.content.decode()[-3000:]
    return OperatorTask.objects.get(pk=int(response["Location"].split("/")[-3]))


def trail(agreement: Any) -> list[tuple[str, str, dict[str, Any]]]:
    links = AuditEvent.objects.filter(stream=agreement.audit_stream).order_by("sequence")
    return [(link.actor, link.action, link.data) for link in links]

"""What the tests of buying share: a browser that lands, signs up with a mailed code, and confirms."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

from django.core import mail
from django.db import connections

from tests.plugin import PASSWORD

REGISTER = "/marketplace/register/"
WELCOME = "/marketplace/welcome/"
CLAIM = "/marketplace/claim/"
TOKEN_FIELD = "x-amzn-marketplace-token"


def land(client: Any, token: str, **fields: str) -> Any:
    """AWS's page posts the token, from another site: no session cookie comes with it."""
    return client.post(REGISTER, {TOKEN_FIELD: token, **fields})


def references(page: Any) -> list[str]:
    """The hidden references of the forms on the welcome page, each purchase once."""
    return list(dict.fromkeys(re.findall(r'name="registration" value="([^"]+)"', page.content.decode())))


def confirm(client: Any, *, organization: object = "new", name: str = "", reference: str = "") -> Any:
    """Press the button of the first form on the welcome page."""
    fields = {"organization": str(organization), "name": name}
    return client.post(CLAIM, {**fields, "registration": reference or references(client.get(WELCOME))[0]})


def sign_up(client: Any, email: str) -> Any:
    """Fill in the form and type the code that was mailed; answers where that leads."""
    client.post("/accounts/signup/", {"email": email, "password1": PASSWORD, "next": WELCOME})
    return client.post("/accounts/confirm-email/", {"code": mailed_code()})


def sign_in(client: Any, email: str, **more: str) -> Any:
    return client.post("/accounts/login/", {"login": email, "password": PASSWORD, **more})


def mailed_code() -> str:
    found = re.search(r"^[A-Z0-9]+(?:-[A-Z0-9]+)+$", str(mail.outbox[-1].body), re.MULTILINE)
    assert found
    return found[0]


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run each call in a thread of its own, at the same moment; answers or exceptions, in order."""
    answers: list[Any] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def run(place: int, call: Callable[[], Any]) -> None:
        try:
            gate.wait(timeout=10)
            answers[place] = call()
        except Exception as error:
            answers[place] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(n, call)) for n, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return answers

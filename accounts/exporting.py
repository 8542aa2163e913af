"""An organization's or a person's own data as JSON, written while it is read: memory stays flat."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from accounts.adapter import Part, get_adapter
from accounts.models import Organization, User

_CHUNK = 2000
# So many characters go out at a time.
_PIECE = 16_384


def of_organization(organization: Organization, *, now: datetime) -> Iterator[str]:
    """What belongs to ``organization`` and to no other."""
    about = {
        "name": organization.name,
        "address": organization.get_absolute_url(),
        "created_at": organization.created_at,
    }
    return _pieces({"exported_at": now, "workspace": about}, _parts_of(organization))


def _parts_of(organization: Organization) -> Iterator[Part]:
    yield "members", _rows(organization.memberships, "user__name", "user__email", "role", "created_at")
    yield (
        "invitations",
        _rows(
            organization.invitations, "email", "role", "invited_by__email", "created_at", "expires_at",
            "accepted_at", "revoked_at",
        ),
    )  # fmt: skip
    yield from get_adapter().export(organization)


def of_person(user: User, *, now: datetime) -> Iterator[str]:
    """What is kept about ``user`` themselves. What they did in a workspace is the workspace's."""
    about = {
        name: getattr(user, name)
        for name in ("email", "name", "language", "time_zone", "date_joined", "last_login")
    }
    return _pieces({"exported_at": now, "account": about}, _parts_of_person(user))


def _parts_of_person(user: User) -> Iterator[Part]:
    yield "addresses", _rows(user.emailaddress_set, "email", "verified", "primary")
    yield (
        "workspaces",
        _rows(user.memberships, "organization__name", "organization__slug", "role", "created_at"),
    )
    yield (
        "invitations_accepted",
        _rows(user.invitations_accepted, "organization__name", "email", "role", "accepted_at"),
    )
    # Secrets are not for a file.
    yield "second_factors", _rows(user.authenticator_set, "type", "created_at", "last_used_at")
    yield "sessions", _rows(user.usersession_set, "ip", "user_agent", "created_at", "last_seen_at")
    yield "accounts_elsewhere", _rows(user.socialaccount_set, "provider", "uid", "date_joined", "last_login")
    yield from get_adapter().export_of(user)


def _rows(related: Any, *columns: str) -> Iterator[dict[str, Any]]:
    for row in related.order_by("pk").values(*columns).iterator(chunk_size=_CHUNK):
        yield {name.removeprefix("user__").replace("__", "_"): value for name, value in row.items()}


def _pieces(head: Mapping[str, Any], parts: Iterable[Part]) -> Iterator[str]:
    """The text of ``_texts`` in pieces worth sending."""
    waiting: list[str] = []
    length = 0
    for text in _texts(head, parts):
        waiting.append(text)
        length += len(text)
        if length >= _PIECE:
            yield "".join(waiting)
            waiting, length = [], 0
    yield "".join(waiting)


def _texts(head: Mapping[str, Any], parts: Iterable[Part]) -> Iterator[str]:
    yield _json(head).removesuffix("}")
    for name, rows in parts:
        yield f",\n{_json(name)}: ["
        for number, row in enumerate(rows):
            yield f"{',' if number else ''}\n{_json(row)}"
        yield "]"
    yield "}\n"


def _json(value: Any) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)

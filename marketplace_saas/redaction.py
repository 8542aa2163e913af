"""What must stand in no log line, error mail or report: it is cut out of the finished text.

Finding by shape errs on the side of cutting too much. What a person needs to find the row again stays: ids,
ARNs, digests, times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

CUT = "[redacted]"

# What is called so is secret; but not "ExpiredTokenException: The customer's token has expired".
_SECRET_NAME = (
    r"(?:token|secret|passw(?:or)?d|passphrase|(?:api|access|private|audit)[_-]?key|signature|credential"
    r"|session[_-]?id|csrf)(?!(?:\w{0,20}(?:Exception|DoesNotMatch|Error|Expired|Invalid)|Id)\b)[\w.-]{0,40}"
)
_SECRET_HEADER = r"(?:(?:proxy[_-])?authorization|(?:set[_-])?cookies?)"
# Between a name and its value: of a query, a header, JSON, or Python's way of printing a dict or a tuple.
_IS = r"""(?:(?:%22|\\*["'])?\s{0,4}(?::|=|%3D|%3A)|\\*["']\s{0,4},)\s{0,4}[\[({]{0,3}"""
_QUOTE = r"""b?(\\*["'])"""

# Each reads a text once from left to right: no text takes long.
_SHAPES = [
    (re.compile(r"-----BEGIN [A-Z ]{1,40}-----.*?(?:-----END [A-Z ]{1,40}-----|\Z)", re.DOTALL), CUT),
    # To the end of the line, or of the quoted value.
    (re.compile(rf"""(?i)({_SECRET_HEADER}{_IS}(?:b?\\*["'])?)[^"'\\\r\n]+"""), rf"\1{CUT}"),
    (re.compile(rf"(?i)({_SECRET_NAME}{_IS}{_QUOTE})(?:(?!\2)[^\r\n])+"), rf"\1{CUT}"),
    (
        re.compile(
            rf"""(?i)({_SECRET_NAME}{_IS})(?!b?\\*["']|\[redacted|\w+(?:Exception|Error)\b)[^\s"'&;,)\]}}]+"""
        ),
        rf"\1{CUT}",
    ),
    (re.compile(r"(?i)\b(bearer) +(?!\[redacted)[\w.~+/=-]{4,}"), rf"\1 {CUT}"),
    (re.compile(r"(AWS4-HMAC-SHA256) (?!\[redacted)[^\r\n\"']+"), rf"\1 {CUT}"),
    # A password in an address: of the database, of Redis, of the mail server.
    (re.compile(r"(?i)(://[^\s:/@]{0,200}):[^\s/@]{1,500}@"), rf"\1:{CUT}@"),
    (re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}\b"), CUT),
    # A secret access key; and whatever else is long and random: it has upper and lower case and digits, where
    # the digests, ids and ARNs that we print have not.
    (
        re.compile(
            r"(?<![\w+/=%-])(?=[\w+/=%-]*[A-Z])(?=[\w+/=%-]*[a-z])(?=[\w+/=%-]*[0-9])[\w+/=%-]{32,}", re.ASCII
        ),
        CUT,
    ),
    (re.compile(r"(?<![\w.+'-])[\w.+'-]++(?:@|%40)[\w-]+(?:\.[\w-]+)+"), CUT),
]
_NAMED = re.compile(rf"(?i)^[\w.-]{{0,40}}?{_SECRET_NAME}$|^{_SECRET_HEADER}$")


def scrub(text: str) -> str:
    """``text`` without secrets, tokens, keys, cookies and e-mail addresses."""
    for secret in _configured():
        text = text.replace(secret, CUT)
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text


def scrub_all(value: Any) -> Any:
    """``value`` with every text in it scrubbed, and gone where its name is a secret's."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return {
            scrub_all(name): CUT if _NAMED.match(str(name)) and each else scrub_all(each)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [scrub_all(each) for each in value]
    return value


def before_send(event: Any, hint: Any) -> Any:
    """For Sentry: nothing leaves this machine that a log line would not show."""
    return scrub_all(event)


@cache
def _configured() -> tuple[str, ...]:
    """This installation's own secrets, whatever they look like."""
    return tuple(sorted({secret for secret in _secrets() if len(secret) >= 8}, key=len, reverse=True))


def _secrets() -> Iterator[str]:
    yield settings.SECRET_KEY
    yield settings.AUDIT_KEY
    yield settings.STATUS_TOKEN
    yield from settings.SECRET_KEY_FALLBACKS
    yield str(settings.DATABASES["default"].get("PASSWORD") or "")
    yield urlsplit(settings.REDIS_URL).password or ""
    yield settings.EMAIL_HOST_PASSWORD or ""
    yield settings.MARKETPLACE["role_external_id"] or ""

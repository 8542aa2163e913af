"""No tracked file holds what looks like a secret. It knows shapes, not meanings, and asks nobody."""

from __future__ import annotations

import math
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from django.conf import settings

ROOT = settings.BASE_DIR
SHAPES = {
    "AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "AWS secret key": r"(?i)aws_secret_access_key['\"]?\s*[:=]\s*['\"]?[A-Za-z0-9/+]{40}\b",
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{16}",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})\b",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{20,}",
    "Stripe key": r"\b[rs]k_live_[A-Za-z0-9]{20,}",
    "Google key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "JSON web token": r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{20,}",
    "password in an address": r"\b(?:postgres(?:ql)?|redis|rediss|smtp(?:\+\w+)?|amqp|https?)://[^\s:/@'\"{}<>$]+:(?P<secret>[^\s@/'\"{}<>$]{8,})@",
}
# A long value beside a name that says what it is.
ASSIGNED = re.compile(
    r"(?im)^[ \t]*(?:export )?[\"']?\w*(?:secret|token|password|api_?key|private_?key)\w*[\"']?[ \t]*"
    r"[:=][ \t]*[\"']?(?P<secret>[A-Za-z0-9_\-/+=.]{24,})[\"']?[ \t,]*$"
)
# Said to be none, beside what it is.
KNOWN = re.compile(
    r"(?i)not-a-secret|insecure|example|simulat|placeholder|x{8}|:password@|0123456789|abcdefgh"
)
_RANDOM = 3.9  # bits a character: words and names of code stay below


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        return [ROOT / name for name in listed.stdout.split("\0") if name]
    # A copy without history: everything that is ours.
    ours = ("accounts", "billing", "marketplace_saas", "templates", "tests", "docs", "deploy", ".ci")
    return [path for folder in ours for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]


def secrets_in(text: str) -> list[str]:
    found = [
        f"{name}: {_shown(match)}"
        for name, shape in SHAPES.items()
        for match in re.finditer(shape, text)
        if not KNOWN.search(match[0])
    ]
    found += [
        f"a long random value: {_shown(match)}"
        for match in ASSIGNED.finditer(text)
        if _is_random(match["secret"]) and not KNOWN.search(match[0])
    ]
    return found


def _shown(match: re.Match[str]) -> str:
    """Where it is, and not what it is: this ends in a public log."""
    line = match.string.count("\n", 0, match.start()) + 1
    return f"line {line}, {match[0].strip()[:8]}…"


def _is_random(text: str) -> bool:
    counts = Counter(text)
    bits = -sum(count / len(text) * math.log2(count / len(text)) for count in counts.values())
    return bits > _RANDOM and bool(re.search(r"\d", text)) and bool(re.search(r"[A-Za-z]", text))


def test_no_tracked_file_holds_a_secret():
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # pictures, compiled catalogs, what was deleted but not yet committed
        found += [f"{path.relative_to(ROOT)}: {secret}" for secret in secrets_in(text)]
    assert found == []


def test_no_file_that_is_made_to_hold_secrets_is_tracked():
    names = {path.relative_to(ROOT).as_posix() for path in tracked()}
    kept = {
        name
        for name in names
        if re.search(r"(^|/)\.env$|\.pem$|\.key$|\.p12$|\.sqlite3$|production\.env$", name)
    }
    assert kept <= {".ci/production.env"}


# Put together here, or this file would be found.
@pytest.mark.parametrize(
    "text",
    [
        "key = AKI" + "AIOSFODNN7ABCDEFG",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYzR" + "t0kKvQpL",
        "-----BEGIN RSA PRIVATE " + "KEY-----\nMIIEowIBAAKCAQEAvu1",
        "-----BEGIN PRIVATE " + "KEY-----\nMIIEvQIBADANBgkqhkiG",
        "token: ghp" + "_1234567890abcdefABCDEF1234567890abcd"[:1] + "q7Zt" * 9,
        "DATABASE_URL=postgres://app:hunter2hunter2" + "@db.internal:5432/app",
        'SECRET_KEY = "q8Zr2LwX9vTn4KbY7mHs5JdF' + '1GpC3RxV6NyU0QaEoWiB"',
        "  session_token: q8Zr2LwX9vTn4KbY7mHs5JdF" + "1GpC3RxV6NyU0Qa",
    ],
)
def test_what_looks_like_a_secret_is_found_and_not_shown(text):
    found = secrets_in(f"first line\n{text}\nlast line")
    assert found
    assert all("line 2" in one and len(one) < 60 for one in found)


@pytest.mark.parametrize(
    "text",
    [
        'TOKEN_FIELD = "x-amzn-marketplace-token"',
        "SECRET_KEY=not-a-secret-3f9Jx0vQm2T7LrYbWc8Zs5KdNhPgUe1AiRo6VtXyBq4",
        "#EMAIL_URL=smtp+tls://user:password@host:587",
        "DATABASE_URL=postgres://postgres@127.0.0.1:5432/acme",
        "token = registration.token_of_the_arrival_that_was_posted",
        'password = "correct horse battery staple"',
        "secret: ${{ secrets.PRODUCTION_DATABASE_PASSWORD_2 }}",
        "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG",
    ],
)
def test_what_is_none_is_left_alone(text):
    assert secrets_in(text) == []

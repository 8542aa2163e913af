"""When two email addresses are one, and how an address is spoken of to people who may not know it."""

import string

_IN_LOWER_CASE = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def are_same(one: str, other: str) -> bool:
    """Whether they are one mailbox, without regard to case. Never ask a database this with ``iexact``.

    PostgreSQL's UPPER makes of a dotless ı a plain I: an address that only looks like another would be it.
    """
    return one.translate(_IN_LOWER_CASE) == other.translate(_IN_LOWER_CASE)


def masked(address: str) -> str:
    """``ada@acme.example`` as ``a••@a•••.example``: recognizable to a colleague, useless to others."""
    local, _, domain = address.partition("@")
    name, _, ending = domain.rpartition(".")
    return f"{local[:1]}••@{name[:1]}•••.{ending}"

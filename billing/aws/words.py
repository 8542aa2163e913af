"""Others' words (AWS's, a mail server's) as every database can keep them."""

from __future__ import annotations


def storable(text: str) -> str:
    """PostgreSQL keeps no NUL, and no half of a surrogate pair."""
    return text.replace("\x00", "").encode(errors="replace").decode()

"""What a name may hold: any letters, marks and emoji, on one line."""

import unicodedata

# Line breaks, NUL and the like: in a name they can only deceive, or break a mail's header.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def is_plain(name: str) -> bool:
    return not any(unicodedata.category(character) in _UNPRINTABLE for character in name)


def plain(name: str, *, length: int) -> str:
    """``name`` as it may be kept, when nobody is there to be asked for another."""
    kept = "".join(character if is_plain(character) else " " for character in name)
    return " ".join(kept.split())[:length].rstrip()

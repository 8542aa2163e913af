"""What a name may hold: any letters, marks and emoji, on one line.

Names are written by strangers and stand in mails of ours, so they hold no address that a mail program would
turn into a link, and nothing that makes the words around them read in another order.
"""

import unicodedata

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

# Line breaks, NUL and the like: in a name they can only deceive, or break a mail's header.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
# They turn what follows around, also beyond the name. Letters from right to left need none of them.
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_OF_A_LINK = "://"


def is_plain(name: str) -> bool:
    return not any(each in _TURNS or unicodedata.category(each) in _UNPRINTABLE for each in name)


def checked(name: str) -> str:
    """``name`` without surplus spaces. Raises ValidationError with a sentence for people."""
    if not is_plain(name):
        raise ValidationError(_("Write the name without line breaks and other control characters."))
    if _OF_A_LINK in name:
        raise ValidationError(_("Write the name without the address of a web page."))
    return " ".join(name.split())


def checked_to_be_seen(name: str) -> str:
    """As ``checked``, for a name that must not be empty to the eye."""
    # Letters, digits, signs and emoji are seen; spaces, joiners and marks alone are not.
    if not any(unicodedata.category(character)[0] in "LNPS" for character in name):
        raise ValidationError(_("Give the workspace a name that can be seen."))
    return checked(name)


def plain(name: str, *, length: int) -> str:
    """``name`` as it may be kept, when nobody is there to be asked for another."""
    kept = "".join(character if is_plain(character) else " " for character in name).replace(_OF_A_LINK, " ")
    return " ".join(kept.split())[:length].rstrip()

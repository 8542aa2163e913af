"""What a person can do about an answer of AWS's, in a sentence."""

from __future__ import annotations

from django.utils.translation import gettext as _

from billing.aws.errors import MEANINGS
from billing.models import MeteringRecord

_SETTLED = (
    MeteringRecord.State.ACCEPTED,
    MeteringRecord.State.VOID,
    MeteringRecord.State.WRITTEN_OFF,
)


def of(status: str, record: MeteringRecord) -> str:
    """For AWS's Status of ``record``, an error code, or '' (no answer); '' where nothing is left to do."""
    if record.state in _SETTLED:
        return ""
    match status:
        case "Success":
            return ""
        case "":
            return _("Nothing to do: AWS may hold it, and the identical record is sent again.")
        case "Unprocessed":
            return _("Nothing to do: AWS had no time for it, and it is sent again.")
        case "CustomerNotSubscribed":
            return _("AWS knows no subscription yet: it is tried until its deadline. Look at the agreement.")
        case "DuplicateRecord":
            return _("AWS already holds this hour. Look at the record's state: a conflict wants a person.")
    meaning = MEANINGS.get(status)
    if meaning is None:
        return _("This version does not know this answer: look it up, then update the kit.")
    return f"{meaning.explanation} {meaning.fix}"

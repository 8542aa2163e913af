"""What reconciliation finds, and the names of what it can find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

KINDS: Mapping[str, str] = {
    "used": "a record's use is not the sum of its events",
    "included": "a record's covered part is not what its allowance leaves",
    "quantity": "a record bills another amount than its use less what is covered",
    "wire": "the frozen text or time for AWS is not that of the record",
    "identity": "a record is frozen under another license or product than its agreement's",
    "deadline": "a record's deadline is not AWS's",
    "allocations": "a record's allocations to tags are not those of its events",
    "misplaced_event": "a use stands in a record of another agreement or dimension, or is not billable",
    "state": "a record's state is not what AWS's answers make of it",
    "metered_twice": "an hour is accepted twice, also under license and product code",
    "same_aws_id": "two records have one id of AWS's: it took one of them",
    "archived": "the archived use of a day is not that of its records",
    "equation": "recorded use is not included + billed by state + open + set aside",
    "not_on_invoice": "AWS accepted it, and the invoice does not have it",
    "not_in_ledger": "the invoice has it, and the ledger does not have it accepted",
    "differs_from_invoice": "ledger and invoice have different quantities",
    "billed_twice": "the invoice has the same hour more than once",
    "archive_file": "a file of archived usage is missing or changed (verify_archive)",
    "archive_totals": "a file's sums are not those that are kept of it (verify_archive)",
    "archive_keys": "a key of archived usage is not kept, or its use is back (verify_archive)",
}


@dataclass(frozen=True, slots=True)
class Breach:
    """One rule that does not hold, with what ought to be there and what is."""

    kind: str
    text: str
    agreement: int | None = None
    dimension: str = ""
    hour: datetime | None = None
    record: int | None = None
    expected: str = ""
    found: str = ""
    is_information: bool = False  # worth knowing, and no breach

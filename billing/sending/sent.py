"""A BatchMeterUsage call as it went over the wire, and what AWS said of it, told from what is kept.

The request is built anew from the frozen columns that it was built from; of the answer its lines are kept.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from billing.aws import wire
from billing.models import Submission, SubmissionLine
from billing.sending.batches import LINE_COLUMNS, usage_lines

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def request(submission: Submission) -> str:
    """The body of the call, as JSON, laid out to be read."""
    columns = [column if column == "pk" else f"record__{column}" for column in LINE_COLUMNS]
    columns[0] = "record"
    lines = list(usage_lines(submission.lines.order_by("pk").values_list(*columns)))
    return _text(wire.batch_request(lines)) if lines else ""


def response(submission: Submission) -> str:
    """What AWS said of each record, or of the call; '' if nothing came back."""
    if submission.outcome == Submission.Outcome.ANSWERED:
        lines = list(submission.lines.order_by("pk"))
        answer: dict[str, Any] = {
            "Results": [_result(line) for line in lines if line.status not in ("", "Unprocessed")],
            "UnprocessedRecords": [
                {"record": line.record_id} for line in lines if line.status == "Unprocessed"
            ],
        }
        return _text(answer)
    if submission.error_code:
        return _text({"__type": submission.error_code, "message": submission.error_message})
    return ""


def _result(line: SubmissionLine) -> dict[str, Any]:
    told: dict[str, Any] = {"record": line.record_id, "Status": line.status}
    return told if line.aws_record_id is None else {**told, "MeteringRecordId": line.aws_record_id}


def _text(body: dict[str, Any]) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False, default=_on_the_wire)


def _on_the_wire(value: Any) -> Any:
    """Instants go as seconds since 1970, as AWS's JSON protocol has them."""
    if isinstance(value, datetime):
        seconds = (value - _EPOCH).total_seconds()
        return int(seconds) if seconds.is_integer() else seconds
    return str(value)

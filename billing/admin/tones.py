"""Which states are well, which want watching, which want a person: unfold's colours, in one place."""

from billing.models import Agreement, Effect, MarketplaceEvent, MeteringRecord, Submission, UsageEvent

RECORD_STATE: dict[str, str] = {
    MeteringRecord.State.DUE: "info",
    MeteringRecord.State.IN_DOUBT: "warning",
    MeteringRecord.State.WAITING: "warning",
    MeteringRecord.State.ACCEPTED: "success",
    MeteringRecord.State.CONFLICT: "danger",
    MeteringRecord.State.PARKED: "danger",
    MeteringRecord.State.HELD: "warning",
    MeteringRecord.State.EXPIRED: "danger",
}
AGREEMENT_STATUS: dict[str, str] = {
    Agreement.Status.PENDING: "info",
    Agreement.Status.ACTIVE: "success",
    Agreement.Status.ENDING: "warning",
    Agreement.Status.FAILED: "danger",
}
EVENT_STATE: dict[str, str] = {
    MarketplaceEvent.State.RECEIVED: "info",
    MarketplaceEvent.State.APPLIED: "success",
    MarketplaceEvent.State.WAITING: "warning",
    MarketplaceEvent.State.UNKNOWN: "danger",
    MarketplaceEvent.State.FAILED: "danger",
}
# What AWS told has no colour; what we told ourselves has.
EVENT_CHANNEL: dict[str, str] = {
    MarketplaceEvent.Channel.CLOCK: "primary",
    MarketplaceEvent.Channel.READING: "info",
}
# Skipped is as well as done: the world had moved on.
EFFECT_STATE: dict[str, str] = {
    Effect.State.DUE: "info",
    Effect.State.DONE: "success",
    Effect.State.SKIPPED: "",
}
SUBMISSION_OUTCOME: dict[str, str] = {
    Submission.Outcome.SENT: "info",
    Submission.Outcome.ANSWERED: "success",
    Submission.Outcome.REFUSED: "danger",
    Submission.Outcome.FAILED: "warning",
}
# Of an entry of the history: a dot before it.
DOT = {
    "success": "bg-green-500",
    "info": "bg-blue-500",
    "warning": "bg-orange-500",
    "danger": "bg-red-500",
    "": "bg-base-300",
}
DISPOSITION: dict[str, str] = {
    UsageEvent.Disposition.BILLABLE: "success",
    UsageEvent.Disposition.TOO_LATE: "danger",
    UsageEvent.Disposition.OUTSIDE_AGREEMENT: "warning",
}

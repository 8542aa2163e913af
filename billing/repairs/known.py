"""Every repair there is, by its name in addresses and in OperatorTask."""

from __future__ import annotations

from billing.repairs import of_agreements, of_all, of_events, of_records
from billing.repairs.kinds import Repair

REPAIRS: dict[str, Repair] = {
    repair.name: repair
    for repair in (
        of_records.Retry(),
        of_records.Hold(),
        of_records.Resume(),
        of_records.Void(),
        of_records.WriteOff(),
        of_records.BillLateUsage(),
        of_records.WriteOffUsage(),
        of_agreements.SyncEntitlements(),
        of_agreements.Transfer(),
        of_agreements.LinkRenewal(),
        of_agreements.ResendWelcome(),
        of_agreements.SettleFlag(),
        of_events.Replay(),
        of_all.WalkProduct(),
        of_all.SubmitNow(),
    )
}

"""The reconciliation pages: a month of the ledger beside what AWS says that it billed."""

import billing.admin.reconciliation.pages
import billing.admin.reconciliation.reports
import billing.admin.reconciliation.statements
import billing.admin.reconciliation.uploading  # noqa: F401  # they register themselves
from billing.admin.reconciliation.access import may_look

__all__ = ["may_look"]

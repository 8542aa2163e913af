"""The second opinion on the ledger: every figure and state recomputed from what they were made of.

Nothing here calls the code that closes or submits: the rules of the ledger are written again, in the plainest
way, over usage, entitlements and submission lines.
"""

from billing.reconciliation.breach import KINDS, Breach
from billing.reconciliation.invoices import Invoice, InvoiceUnusable
from billing.reconciliation.verification import findings, verify

__all__ = ["KINDS", "Breach", "Invoice", "InvoiceUnusable", "findings", "verify"]

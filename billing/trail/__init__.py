"""Behind billing.audit: the chains and their proof, and what is told of by signals, without a flow."""

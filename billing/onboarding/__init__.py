"""Around billing.registration: who the visitor is, whose the AWS account, what was bought, what comes next."""

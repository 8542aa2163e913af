"""Around billing.registration: who the visitor is, whose the AWS account is, what was bought."""

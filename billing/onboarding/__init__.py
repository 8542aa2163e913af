"""From arriving to the first day: who the visitor is, whose the AWS account is, and what was bought."""

"""What SDKs talk to: the wire protocols, and AWS's operations by AWS's rules."""

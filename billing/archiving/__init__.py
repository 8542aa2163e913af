"""What billing.retention is made of: the files of old usage, and what is still known of its keys."""

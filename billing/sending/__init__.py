"""What billing.submission is made of: calls packed, paced and made, and what AWS said of each record."""

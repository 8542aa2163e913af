"""The mails that billing.mails asks for: what each says to whom, and sending it."""

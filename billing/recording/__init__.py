"""What billing.usage is made of: one use or many, what is well-formed, and which purchase pays."""

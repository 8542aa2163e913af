"""What people see with a browser: the store, a buyer's subscriptions, the control room, the invoice."""

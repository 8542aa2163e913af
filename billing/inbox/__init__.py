"""How AWS's notifications come in, and how one is applied again. billing.events stores and applies them."""

"""Repairs in the console: buttons and list actions, the page that asks, and what became of each."""

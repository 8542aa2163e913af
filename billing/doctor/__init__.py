"""Looks at everything that selling depends on, changes nothing, and says what to do about what is amiss."""

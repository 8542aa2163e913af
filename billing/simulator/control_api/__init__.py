"""The JSON API under /_simulator/ by which tests and people drive the simulation."""

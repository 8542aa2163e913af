"""Dates and times as the readers of each language write them. FORMAT_MODULE_PATH in the settings."""

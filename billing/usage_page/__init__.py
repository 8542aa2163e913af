"""The usage page and its CSV: what was asked for, summed, drawn and put in words."""

"""What views.usage shows, as a page and as CSV: what was asked for, summed, drawn and put in words."""

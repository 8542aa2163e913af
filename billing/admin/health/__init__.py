"""How things stand now, subject by subject: what the front page is made of."""

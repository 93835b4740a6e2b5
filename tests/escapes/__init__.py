"""``make attack``: programs under a certificate try to get what their policy forbids."""

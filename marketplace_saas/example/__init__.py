"""The example product: reports, billed by the page. Delete this folder and its line in urls.py to drop it."""

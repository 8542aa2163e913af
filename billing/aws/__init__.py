"""The one seam to AWS. A leaf: imports no models and no flows; only client.py imports boto3."""

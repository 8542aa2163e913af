"""`make demo`: the whole business on this machine, from the purchase to AWS's invoice."""

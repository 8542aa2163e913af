"""Repairs: what operators may do to what AWS said or was told, each with a reason and under their name.

A repair is asked for on a page that says what would happen (``foresee``), kept as an OperatorTask, and
carried out by billing.repairs.running. To add one: a flow that holds the rules, a Repair here, its name on an
admin.
"""

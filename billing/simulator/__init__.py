"""AWS Marketplace on your laptop, for tests and for people. It is AWS, not us: it imports nothing of ours.

``state`` holds what it knows, ``lifecycle`` what becomes of a purchase, ``aws`` what SDKs talk to,
``control_api`` how it is steered, ``pages`` what a browser shows. ``server`` serves all of it on one port and
``journal`` keeps it; ``client`` and ``pytest_plugin`` are for your tests.
"""

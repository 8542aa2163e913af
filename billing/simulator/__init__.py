"""AWS Marketplace on your laptop, for tests and for people.

It is AWS, not us: it imports nothing of this project.
"""

"""How an email address is spoken of to people who may not know it."""


def masked(address: str) -> str:
    """``ada@acme.example`` as ``a••@a•••.example``: recognizable to a colleague, useless to others."""
    local, _, domain = address.partition("@")
    name, _, ending = domain.rpartition(".")
    return f"{local[:1]}••@{name[:1]}•••.{ending}"

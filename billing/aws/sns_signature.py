"""Whether a message that came over HTTPS is from SNS: "Verifying the signatures of Amazon SNS messages".

Anybody can post to an endpoint. What tells AWS from everybody else is a signature, made with a key that a
public root vouches for as ``sns.amazonaws.com``: so it is in the Region where AWS Marketplace has its topics.
Only certificates that were verified are remembered, and each use verifies them again.
"""

from __future__ import annotations

import functools
import re
import ssl
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, build_opener

import certifi
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import AuthorityInformationAccessOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

Fetch = Callable[[str], bytes]

_SIGNER = "sns.amazonaws.com"
_DIGESTS: dict[str, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "2": hashes.SHA256()}
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}

_TOPIC = re.compile(r"arn:(aws[a-z-]*):sns:([a-z]{2,4}(?:-[a-z]+)+-\d):\d{12}:[\w.-]+", re.ASCII)
# Plain HTTP is how certificates name their issuers': the chain is verified, not the way that it came.
_ISSUER = re.compile(r"https?://(?:[a-z0-9-]+\.)+amazontrust\.com/[\w./-]+", re.ASCII)

_TIMEOUT_SECONDS = 5
_MOST_BYTES = 64 * 1024
_MOST_KNOWN = 16

_known: dict[str, list[x509.Certificate]] = {}


class SignatureRefused(Exception):
    """Not from SNS, as far as we can tell. ``reason`` is for our log: who posted learns nothing from us."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def download(url: str) -> bytes:
    """What the server answers, which may not send us elsewhere.

    Raises FileNotFoundError when it has nothing there, and another OSError when it may have later.
    """
    opener = build_opener(HTTPSHandler(context=ssl.create_default_context()), _NoRedirects)
    try:
        with opener.open(url, timeout=_TIMEOUT_SECONDS) as answer:
            body: bytes = answer.read(_MOST_BYTES + 1)
    except HTTPError as error:
        if error.code >= 500 or error.code == 429:
            raise
        raise FileNotFoundError(f"HTTP {error.code}") from error
    except HTTPException as error:
        raise OSError(f"It did not speak HTTP: {type(error).__name__}") from error
    if len(body) > _MOST_BYTES:
        raise FileNotFoundError("What is there is too long")
    return body


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        """Leaves a redirection an HTTPError."""


@functools.cache
def public_roots() -> Store:
    """The roots of the public web, and none that this machine trusts besides."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certifi.where())
    certificates = zip(context.get_ca_certs(), context.get_ca_certs(binary_form=True), strict=True)
    # Some old roots have the serial number 0, which `cryptography` warns that it will refuse to load.
    return Store(
        [
            x509.load_der_x509_certificate(der)
            for told, der in certificates
            if int(str(told["serialNumber"]), 16)
        ]
    )


def verify(
    message: Mapping[str, str], *, now: datetime, fetch: Fetch = download, roots: Store | None = None
) -> None:
    """Return if SNS signed ``message``, else raise SignatureRefused.

    Raises OSError when ``fetch`` does: the message may be good, and should come again.
    """
    digest = _DIGESTS.get(message.get("SignatureVersion", ""))
    if digest is None:
        raise SignatureRefused("Its SignatureVersion is not known")
    signed = string_to_sign(message)
    try:
        signature = b64decode(message.get("Signature", ""), validate=True)
    except ValueError:
        raise SignatureRefused("Its Signature is not base64") from None
    url = message.get("SigningCertURL", "")
    if not (is_at_sns(url, topic_arn=message["TopicArn"]) and re.fullmatch(r"[^?#]+\.pem", url)):
        raise SignatureRefused("Its SigningCertURL is not a certificate of SNS in the topic's Region")
    key = _signing_key(url, now=now, fetch=fetch, roots=roots or public_roots())
    try:
        key.verify(signature, signed, PKCS1v15(), digest)
    except InvalidSignature:
        raise SignatureRefused("Its Signature is not of what it says") from None


def is_at_sns(url: str, *, topic_arn: str) -> bool:
    """Whether this is an address of SNS in the topic's own Region.

    Written out, so that there is no room for a user, a port, another alphabet or another scheme.
    """
    topic = _TOPIC.fullmatch(topic_arn)
    if topic is None:
        return False
    partition, region = topic.groups()
    domain = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
    return re.fullmatch(rf"https://sns\.{region}\.{re.escape(domain)}/[!-~]*", url) is not None


def string_to_sign(message: Mapping[str, str]) -> bytes:
    """What SNS signs of a message of this Type."""
    keys = _SIGNED.get(message.get("Type", ""))
    if keys is None:
        raise SignatureRefused("Its Type is not known")
    text = ""
    for key in keys:
        if key == "Subject" and key not in message:
            continue
        if key not in message:
            raise SignatureRefused(f"It has no {key}")
        # Nothing is quoted: with a line break, text could move from one value to the next and stay signed.
        if key != "Message" and "\n" in message[key]:
            raise SignatureRefused(f"Its {key} has several lines")
        text += f"{key}\n{message[key]}\n"
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise SignatureRefused("It is no text: it has half of a surrogate pair") from None


def _signing_key(url: str, *, now: datetime, fetch: Fetch, roots: Store) -> RSAPublicKey:
    chain = _known.get(url) or _chain_at(url, fetch)
    verifier = PolicyBuilder().store(roots).time(now).build_server_verifier(x509.DNSName(_SIGNER))
    try:
        verifier.verify(chain[0], chain[1:])
    except VerificationError as error:
        _known.pop(url, None)
        raise SignatureRefused(f"No root vouches now for its certificate: {error}") from error
    key = chain[0].public_key()
    if not isinstance(key, RSAPublicKey):
        raise SignatureRefused("Its certificate's key is not RSA")
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[url] = chain
    return key


def _chain_at(url: str, fetch: Fetch) -> list[x509.Certificate]:
    """The signer's certificate and what comes between it and a root, which SNS leaves to be fetched."""
    try:
        chain = x509.load_pem_x509_certificates(fetch(url))
        if len(chain) == 1:
            chain += [x509.load_der_x509_certificate(fetch(issuer)) for issuer in _issuers_of(chain[0])[:1]]
    except FileNotFoundError as error:
        raise SignatureRefused(f"Its certificate cannot be found: {error}") from error
    except ValueError as error:
        raise SignatureRefused("What stands for its certificate is none") from error
    return chain


def _issuers_of(certificate: x509.Certificate) -> list[str]:
    """Where its issuer's certificate is, as far as we fetch from there."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return []
    return [
        one.access_location.value
        for one in access
        if one.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        and isinstance(one.access_location, x509.UniformResourceIdentifier)
        and _ISSUER.fullmatch(one.access_location.value)
    ]

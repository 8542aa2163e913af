"""SNS as it posts over HTTPS: what it signs, with what, and what there is at its addresses.

The keys are made once in a process. No certificate's address is used twice: verified ones are remembered.
"""

from __future__ import annotations

import itertools
import json
from base64 import b64encode
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import Store

from tests.billing.notices import iso

TOPIC = "arn:aws:sns:us-east-1:287250355862:aws-mp-subscription-notification-reports-classic"
HOST = "https://sns.us-east-1.amazonaws.com"
ISSUER = "http://crt.r2m01.amazontrust.com/r2m01.cer"

_YEARS = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC))
_numbers = itertools.count(1)


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def ca_key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    name: str, key: Any, *, issuer: str, issuer_key: Any, valid: tuple[datetime, datetime] = _YEARS
) -> x509.CertificateBuilder:
    def named(common_name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])

    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder(named(issuer), named(name), key.public_key(), x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(identifier, critical=False)
    )


@cache
def authority(name: str, *, issuer: str, key: str | None = None) -> x509.Certificate:
    """The certificate of a CA. ``key`` names another key than its own name does."""
    signer = ca_key(issuer if key is None else key)
    own = ca_key(name if key is None else key)
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
         "key_agreement", "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    return (
        certificate(name, own, issuer=issuer, issuer_key=signer)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )


def leaf(
    *,
    name: str = "sns.amazonaws.com",
    key: Any = None,
    issuer: str = "Between",
    issuer_key: Any = None,
    issuer_at: str | None = ISSUER,
    valid: tuple[datetime, datetime] = _YEARS,
) -> x509.Certificate:
    issuer_key = issuer_key or ca_key(issuer)
    built = (
        certificate(name, key or rsa_key(), issuer=issuer, issuer_key=issuer_key, valid=valid)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    if issuer_at:
        place = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(issuer_at)
        )
        built = built.add_extension(x509.AuthorityInformationAccess([place]), critical=False)
    return built.sign(issuer_key, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


class Sns:
    """Signs messages. Its ``fetch`` finds what stands at ``pages``: bytes, or an error to raise."""

    def __init__(self, *chain: x509.Certificate) -> None:
        root = authority("Root", issuer="Root")
        between = authority("Between", issuer="Root")
        self.roots = Store([root])
        self.certificate_url = f"{HOST}/SimpleNotificationService-{next(_numbers)}.pem"
        self.pages: dict[str, bytes | Exception] = {
            self.certificate_url: pem(*(chain or [leaf()])),
            ISSUER: between.public_bytes(Encoding.DER),
        }
        self.fetched: list[str] = []

    def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        page = self.pages.get(url, FileNotFoundError("HTTP 404"))
        if isinstance(page, Exception):
            raise page
        return page

    def sign(self, message: dict[str, Any], *, version: str = "1") -> dict[str, Any]:
        keys = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        text = "".join(f"{key}\n{message[key]}\n" for key in keys if key in message)
        digest = {"1": hashes.SHA1(), "2": hashes.SHA256()}[version]
        signature = rsa_key().sign(text.encode(), padding.PKCS1v15(), digest)
        return {
            **message,
            "SignatureVersion": version,
            "Signature": b64encode(signature).decode(),
            "SigningCertURL": self.certificate_url,
        }

    def notification(
        self, at: datetime, *, action: str = "subscribe-success", version: str = "1", **others: Any
    ) -> dict[str, Any]:
        inner = {"action": action, "customer-identifier": "cust1", "product-code": "reports-classic"}
        return self.sign(
            {
                "Type": "Notification", "MessageId": f"posted-{next(_numbers)}", "TopicArn": TOPIC,
                "Message": json.dumps(inner), "Timestamp": iso(at).replace("Z", ".123Z"), **others,
            },
            version=version,
        )  # fmt: skip

    def confirmation(
        self, at: datetime, *, type_: str = "SubscriptionConfirmation", version: str = "1", **others: Any
    ) -> dict[str, Any]:
        url = f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=secret-token"
        return self.sign(
            {
                "Type": type_, "MessageId": f"posted-{next(_numbers)}", "TopicArn": TOPIC,
                "Message": "You have chosen to subscribe.\nTo confirm, visit the SubscribeURL.",
                "SubscribeURL": url, "Token": "secret-token", "Timestamp": iso(at), **others,
            },
            version=version,
        )  # fmt: skip

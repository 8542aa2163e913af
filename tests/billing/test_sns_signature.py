"""Case 62: what SNS signed is known by it, and nothing else passes for it."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import Store

from billing.aws import sns_signature
from billing.aws.sns_signature import SignatureRefused, download, is_at_sns, public_roots, verify
from tests.billing.ledger import NOON
from tests.billing.signed_sns import HOST, ISSUER, TOPIC, Sns, authority, ca_key, leaf, pem, rsa_key

DAY = timedelta(days=1)


@pytest.fixture
def sns():
    return Sns()


def check(sns, message, *, now=NOON):
    verify(message, now=now, fetch=sns.fetch, roots=sns.roots)


def refused(sns, message, *, now=NOON):
    with pytest.raises(SignatureRefused) as caught:
        check(sns, message, now=now)
    return caught.value.reason


# --- What is signed


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", [{}, {"Subject": "Ünïcode"}, {"Subject": ""}])
def test_a_notification_verifies_in_both_versions_with_a_subject_and_without(sns, version, subject):
    check(sns, sns.notification(NOON, version=version, **subject))


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("type_", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_confirmations_verify_in_both_versions(sns, version, type_):
    check(sns, sns.confirmation(NOON, version=version, type_=type_))


def test_the_order_and_the_line_breaks_are_those_of_aws(sns):
    message = {"Type": "Notification", "TopicArn": "t", "Timestamp": "when", "Subject": "s",
               "MessageId": "id", "Message": "m\n\nn", "UnsubscribeURL": "u"}  # fmt: skip
    assert sns_signature.string_to_sign(message) == (
        b"Message\nm\n\nn\nMessageId\nid\nSubject\ns\nTimestamp\nwhen\nTopicArn\nt\nType\nNotification\n"
    )
    message |= {"Type": "UnsubscribeConfirmation", "Token": "k", "SubscribeURL": "url"}
    assert sns_signature.string_to_sign(message) == (
        b"Message\nm\n\nn\nMessageId\nid\nSubscribeURL\nurl\nTimestamp\nwhen\nToken\nk\nTopicArn\nt\n"
        b"Type\nUnsubscribeConfirmation\n"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Message", json.dumps({"action": "unsubscribe-success"})),
        ("MessageId", "another"),
        ("Subject", "another"),
        ("Timestamp", "2026-11-23T12:00:01.123Z"),
        ("TopicArn", TOPIC.replace("classic", "others")),
        ("SignatureVersion", "2"),
    ],
)
def test_what_was_changed_on_the_way_is_refused(sns, key, value):
    message = sns.notification(NOON, Subject="Told")
    assert message[key] != value
    assert refused(sns, {**message, key: value}) == "Its Signature is not of what it says"


def test_a_subject_that_was_signed_cannot_be_dropped_nor_one_added(sns):
    message = sns.notification(NOON, Subject="Told")
    assert "not of what it says" in refused(sns, {k: v for k, v in message.items() if k != "Subject"})
    assert "not of what it says" in refused(sns, {**sns.notification(NOON), "Subject": ""})


def test_text_cannot_move_from_one_value_to_the_next_under_the_same_signature(sns):
    message = sns.notification(NOON, Subject="Told")
    subject = message.pop("Subject")
    renamed = {**message, "MessageId": f"{message['MessageId']}\nSubject\n{subject}"}
    assert refused(sns, renamed) == "Its MessageId has several lines"
    assert sns.fetched == []


@pytest.mark.parametrize("key", ["Message", "MessageId", "Timestamp", "TopicArn", "Type"])
def test_a_notification_without_a_part_is_refused_before_anything_is_fetched(sns, key):
    message = sns.notification(NOON)
    del message[key]
    assert refused(sns, message) == ("Its Type is not known" if key == "Type" else f"It has no {key}")
    assert sns.fetched == []


@pytest.mark.parametrize("key", ["SubscribeURL", "Token"])
def test_a_confirmation_without_a_part_is_refused(sns, key):
    message = sns.confirmation(NOON)
    del message[key]
    assert refused(sns, message) == f"It has no {key}"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"SignatureVersion": "3"}, "Its SignatureVersion is not known"),
        ({"SignatureVersion": ""}, "Its SignatureVersion is not known"),
        ({"Type": "Greeting"}, "Its Type is not known"),
        ({"Signature": "no base64!"}, "Its Signature is not base64"),
        ({"Signature": "é"}, "Its Signature is not base64"),
        ({"Message": "\ud800"}, "It is no text: it has half of a surrogate pair"),
    ],
)
def test_what_cannot_be_a_message_of_sns_is_refused_before_anything_is_fetched(sns, changed, reason):
    assert refused(sns, {**sns.notification(NOON), **changed}) == reason
    assert sns.fetched == []


@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_a_signature_that_is_none_is_refused(sns, signature):
    message = {**sns.notification(NOON), "Signature": signature}
    assert refused(sns, message) == "Its Signature is not of what it says"


# --- Where the certificate is


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://sns.us-east-1.amazonaws.com/a.pem",
        "HTTPS://sns.us-east-1.amazonaws.com/a.pem",
        "ftp://sns.us-east-1.amazonaws.com/a.pem",
        "file:///etc/ssl/a.pem",
        "//sns.us-east-1.amazonaws.com/a.pem",
        "https://sns.us-east-1.amazonaws.com:443/a.pem",
        "https://sns.us-east-1.amazonaws.com:8443/a.pem",
        "https://sns@sns.us-east-1.amazonaws.com/a.pem",
        "https://sns.us-east-1.amazonaws.com@evil.example/a.pem",
        "https://sns.us-east-1.amazonaws.com:x@evil.example/a.pem",
        "https://sns.us-east-1.amazonaws.com.evil.example/a.pem",
        "https://sns.us-east-1.amazonaws.com.cn/a.pem",
        "https://sns.us-east-1.amazonaws.com./a.pem",
        "https://sns.us-east-1.amazonaws.com\\.evil.example/a.pem",
        "https://sns.us-east-1.amazonaws.com#.evil.example/a.pem",
        "https://sns.us-east-1.amazonaws.com?/a.pem",
        "https://sns.us-east-1-amazonaws.com/a.pem",
        "https://snsXus-east-1.amazonaws.com/a.pem",
        "https://evil.sns.us-east-1.amazonaws.com/a.pem",
        "https://sns.evil.us-east-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com/a.pem",  # SNS, but not of this topic
        "https://sns.amazonaws.com/a.pem",
        "https://sns.s3.amazonaws.com/a.pem",  # a bucket
        "https://sns.s3-us-west-2.amazonaws.com/a.pem",
        "https://ѕns.us-east-1.amazonaws.com/a.pem",  # a Cyrillic s
        "https://sns.us-east-1.amazonaws。com/a.pem",
        "https://sns.us-east-1.amazonaws.com/ä.pem",
        "https://sns.us-east-1.amazonaws.com/a .pem",
        "https://sns.us-east-1.amazonaws.com/a\r\n.pem",
        "https://sns.us-east-1.amazonaws.com/a.pem\n",
        "https://sns.us-east-1.amazonaws.com/a.pem?x",
        "https://sns.us-east-1.amazonaws.com/?file=a.pem",
        "https://sns.us-east-1.amazonaws.com/a#.pem",
        "https://sns.us-east-1.amazonaws.com/a.pem/",
        "https://sns.us-east-1.amazonaws.com/a.der",
        "https://sns.us-east-1.amazonaws.com/apem",
    ],
)
def test_no_other_place_is_taken_for_a_certificate_of_sns(sns, url):
    assert refused(sns, {**sns.notification(NOON), "SigningCertURL": url}) == (
        "Its SigningCertURL is not a certificate of SNS in the topic's Region"
    )
    assert sns.fetched == []


@pytest.mark.parametrize(
    ("topic", "host"),
    [
        (TOPIC, "sns.us-east-1.amazonaws.com"),
        ("arn:aws:sns:ap-southeast-7:111111111111:t", "sns.ap-southeast-7.amazonaws.com"),
        ("arn:aws-us-gov:sns:us-gov-west-1:111111111111:t.fifo", "sns.us-gov-west-1.amazonaws.com"),
        ("arn:aws-cn:sns:cn-north-1:111111111111:t", "sns.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_each_region_has_one_host(topic, host):
    assert is_at_sns(f"https://{host}/SimpleNotificationService-1.pem", topic_arn=topic)
    assert not is_at_sns(f"https://{host}.cn/a.pem", topic_arn=topic)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "arn:aws:sns:us-east-1@evil.example/:111111111111:t",
        "arn:aws:sns:s3-us-west-2:111111111111:t",
        "arn:aws:sns:.*:111111111111:t",
        "arn:aws:sqs:us-east-1:111111111111:t",
        f"{TOPIC}:more",
        f"{TOPIC}\n",
    ],
)
def test_what_is_no_topic_has_no_host(topic):
    assert not is_at_sns(f"{HOST}/a.pem", topic_arn=topic)


# --- What the certificate is


def test_the_issuer_is_fetched_where_the_certificate_says(sns):
    check(sns, sns.notification(NOON))
    assert sns.fetched == [sns.certificate_url, ISSUER]


def test_an_issuer_that_comes_along_is_not_fetched():
    sns = Sns(leaf(), authority("Between", issuer="Root"))
    check(sns, sns.notification(NOON))
    assert sns.fetched == [sns.certificate_url]


@pytest.mark.parametrize(
    "issuer_at",
    [
        None,
        "http://evil.example/r2m01.cer",
        "http://amazontrust.com.evil.example/r2m01.cer",
        "http://crt.amazontrust.com@evil.example/r2m01.cer",
        "http://crt.amazontrust.com:8080/r2m01.cer",
        "http://evilamazontrust.com/r2m01.cer",
        "http://crt.amazontrust.com/r2m01.cer?elsewhere",
        "file:///crt.amazontrust.com/r2m01.cer",
    ],
)
def test_an_issuer_elsewhere_is_not_fetched(issuer_at):
    sns = Sns(leaf(issuer_at=issuer_at))
    assert refused(sns, sns.notification(NOON)).startswith("No root vouches now")
    assert sns.fetched == [sns.certificate_url]


def between():
    return authority("Between", issuer="Root")


def of_a_namesake():
    """Of a root that bears the trusted one's name, and another key."""
    own = ca_key("not the root's")
    return [leaf(issuer="Root", issuer_key=own), authority("Root", issuer="Root", key="not the root's")]


UNVOUCHED = {
    "expired": lambda: [leaf(valid=(NOON - 9 * DAY, NOON - DAY)), between()],
    "not begun": lambda: [leaf(valid=(NOON + DAY, NOON + 9 * DAY)), between()],
    "for another name": lambda: [leaf(name="sns.us-east-1.amazonaws.com"), between()],
    "for another host": lambda: [leaf(name="evil.example"), between()],
    "self-signed": lambda: [leaf(issuer="sns.amazonaws.com", issuer_key=rsa_key(), issuer_at=None)],
    "of an unknown root": lambda: [leaf(issuer="Nobody"), authority("Nobody", issuer="Nobody")],
    "of a root's namesake": of_a_namesake,
    "without what is between": lambda: [leaf(issuer="Else"), between()],
    "signed by no CA": lambda: [leaf(issuer="sns.amazonaws.com", issuer_key=rsa_key()), leaf(), between()],
}


@pytest.mark.parametrize("what", UNVOUCHED)
def test_a_certificate_that_no_root_vouches_for_is_refused(what):
    sns = Sns(*UNVOUCHED[what]())
    message = sns.notification(NOON)
    assert refused(sns, message).startswith("No root vouches now")
    assert refused(sns, message).startswith("No root vouches now")
    assert sns.fetched.count(sns.certificate_url) == 2  # it is not remembered


def test_another_key_than_rsa_is_refused():
    sns = Sns(leaf(key=ec.generate_private_key(ec.SECP256R1())))
    assert refused(sns, sns.notification(NOON)) == "Its certificate's key is not RSA"


@pytest.mark.parametrize("page", [b"", b"<html>Not found</html>", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_no_certificate_is_refused(sns, page):
    sns.pages[sns.certificate_url] = page
    assert refused(sns, sns.notification(NOON)) == "What stands for its certificate is none"


def test_an_issuer_that_is_no_certificate_is_refused(sns):
    sns.pages[ISSUER] = pem(leaf())  # DER is meant
    assert refused(sns, sns.notification(NOON)) == "What stands for its certificate is none"


@pytest.mark.parametrize("place", ["certificate", "issuer"])
def test_a_certificate_that_does_not_exist_is_refused(sns, place):
    del sns.pages[ISSUER if place == "issuer" else sns.certificate_url]
    assert refused(sns, sns.notification(NOON)) == "Its certificate cannot be found: HTTP 404"


@pytest.mark.parametrize("place", ["certificate", "issuer"])
def test_a_server_that_is_down_says_nothing_against_the_message(sns, place):
    url = ISSUER if place == "issuer" else sns.certificate_url
    page, sns.pages[url] = sns.pages[url], TimeoutError("down")
    message = sns.notification(NOON)
    with pytest.raises(TimeoutError):
        check(sns, message)
    sns.pages[url] = page
    check(sns, message)


def test_a_verified_certificate_is_fetched_once_and_verified_each_time():
    sns = Sns(leaf(valid=(NOON - DAY, NOON + DAY)))
    for _ in range(3):
        check(sns, sns.notification(NOON))
    assert sns.fetched == [sns.certificate_url, ISSUER]
    with pytest.raises(SignatureRefused):
        verify(sns.notification(NOON), now=NOON, fetch=sns.fetch, roots=Store([authority("X", issuer="X")]))
    check(sns, sns.notification(NOON))
    assert refused(sns, sns.notification(NOON), now=NOON + 2 * DAY).startswith("No root vouches now")
    sns.pages[sns.certificate_url] = pem(leaf())
    check(sns, sns.notification(NOON), now=NOON + 2 * DAY)


def test_few_certificates_are_remembered():
    for _ in range(40):
        sns = Sns()
        check(sns, sns.notification(NOON))
    assert 1 <= len(sns_signature._known) <= 16


def test_the_public_roots_do_not_vouch_for_a_ca_of_ours(sns):
    with pytest.raises(SignatureRefused, match="No root vouches now"):
        verify(sns.notification(NOON), now=NOON, fetch=sns.fetch)
    assert public_roots() is public_roots()


# --- Downloading


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/garbage":
            self.wfile.write(b"what\r\n\r\n")
            return
        status = int(self.path.strip("/"))
        self.send_response(200 if status == 999 else status)
        if status == 302:
            self.send_header("Location", "/200")
        self.end_headers()
        self.wfile.write(b"x" * 70_000 if status == 999 else b"here")

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_page_is_downloaded(server):
    assert download(f"{server}/200") == b"here"


@pytest.mark.parametrize("status", [302, 400, 403, 404, 999])
def test_no_page_a_redirection_and_one_without_end_are_nothing(server, status):
    with pytest.raises(FileNotFoundError):
        download(f"{server}/{status}")


@pytest.mark.parametrize("page", ["/429", "/500", "/503", "/garbage"])
def test_a_server_in_trouble_may_answer_later(server, page):
    with pytest.raises(OSError, match=".") as caught:
        download(f"{server}{page}")
    assert not isinstance(caught.value, FileNotFoundError)


def test_no_server_may_answer_later():
    with pytest.raises(OSError, match="refused"):
        download("http://127.0.0.1:1/")

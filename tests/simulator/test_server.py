from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import boto3
import cbor2
import pytest
from django.core.management import CommandError, call_command

from billing.simulator import journal
from billing.simulator.catalog import read_catalog, read_product
from billing.simulator.client import SimulatorControl
from billing.simulator.errors import Refused
from billing.simulator.pytest_plugin import RunningSimulator
from billing.simulator.server import LARGEST_UPLOAD, THREADS, SimulatorServer
from billing.simulator.state import State
from tests.simulator import load
from tests.simulator.conftest import PAYG

ROOT = Path(__file__).parents[2]


def test_two_simulators_know_nothing_of_each_other(simulator):
    with RunningSimulator() as other:
        other.control.add_product(PAYG)
        assert simulator.control.state()["products"] == []
        assert other.url != simulator.url


def test_it_listens_on_loopback_only(simulator):
    assert simulator.url.startswith("http://127.0.0.1:")


def test_stopping_sends_waiting_receivers_home_and_closes_the_port(aws, simulator):
    sqs = aws("sqs")
    url = sqs.get_queue_url(QueueName="marketplace-events")["QueueUrl"]
    server = RunningSimulator().start()
    server.stop()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(server.url)
    done = threading.Event()

    def wait():
        try:
            sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)
        finally:
            done.set()

    threading.Thread(target=wait, daemon=True).start()
    time.sleep(0.3)
    simulator.app.stop()
    assert done.wait(10)  # not the 20 seconds of the poll


def test_a_receiver_that_hangs_up_takes_no_message_with_it(simulator):
    simulator.control.add_product(PAYG)
    host, port = simulator.url.removeprefix("http://").split(":")
    body = json.dumps({"QueueUrl": f"{simulator.url}/0/marketplace-events", "WaitTimeSeconds": 20}).encode()
    scope = "Credential=k/20261123/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=" + "0" * 64
    head = (
        f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
        "X-Amz-Target: AmazonSQS.ReceiveMessage\r\n"
        f"Authorization: AWS4-HMAC-SHA256 {scope}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        time.sleep(0.3)
    time.sleep(1.5)
    simulator.control.subscribe("reports-payg", agreement_created_after=0, license_updated_after=0)
    assert simulator.control.state()["queues"]["marketplace-events"] == {"visible": 2, "in_flight": 0}


def test_endpoint_variables_are_those_botocore_reads(simulator):
    session = boto3.Session(region_name="us-east-1")
    names = set()
    for service in (
        "meteringmarketplace", "marketplace-entitlement", "marketplace-agreement", "sqs", "sts", "events",
    ):  # fmt: skip
        service_id = session.client(service).meta.service_model.service_id
        names.add("AWS_ENDPOINT_URL_" + service_id.upper().replace(" ", "_").replace("-", "_"))
    assert set(simulator.endpoint_env) == names


def test_nothing_of_ours_and_no_django_settings_are_imported():
    code = (
        "import sys, billing.simulator.server, billing.simulator.client\n"
        "from billing.simulator.state import State\n"
        "from billing.simulator.pages.render import problem\n"
        "problem(State(), 'x')\n"
        "others = ('accounts', 'marketplace_saas', 'botocore', 'boto3')\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in others"
        " or (m.startswith('billing.') and not m.startswith('billing.simulator'))]\n"
        "assert not bad, bad\n"
        "from django.conf import settings\n"
        "assert not settings.configured\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, env={"PATH": ""})


class TestCommand:
    def test_a_busy_port_names_port_and_option(self, simulator):
        port = simulator.url.rpartition(":")[2]
        with pytest.raises(CommandError, match=f"port {port}.*--port"):
            call_command("marketplace_simulator", port=int(port))

    def test_a_port_that_cannot_be_is_refused(self):
        with pytest.raises(CommandError, match="no port 99999"):
            call_command("marketplace_simulator", port=99999)

    def test_a_catalog_that_cannot_be_read_is_named(self, tmp_path):
        for name, content in (
            ("a.json", "{"),
            ("b.json", "[]"),
            ("c.json", '{"products": [{}]}'),
            ("d.json", '{"products": [1]}'),
        ):
            path = tmp_path / name
            path.write_text(content)
            with pytest.raises(Refused):
                read_catalog(path)
        with pytest.raises(CommandError, match=r"missing\.json"):
            call_command("marketplace_simulator", catalog=tmp_path / "missing.json")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"host": "0.0.0.0"}, "--allow-others"),
            ({"host": "::"}, "--allow-others"),
            ({"host": "*"}, "--allow-others"),
            ({"host": ""}, "--allow-others"),
            ({"host": "no.such.host.invalid"}, "no host 'no.such.host.invalid'.*--host"),
            ({"speed": 0}, "--speed is above 0 and at most 100000"),
            ({"speed": -1}, "--speed"),
            ({"speed": 100_001}, "--speed"),
            ({"speed": float("nan")}, "--speed"),
            ({"clock_offset_seconds": float("inf")}, "out of range"),
            ({"clock_offset_seconds": float("nan")}, "out of range"),
            ({"clock_offset_seconds": 1e300}, "out of range"),
            ({"clock_offset_seconds": 1e12}, "2000 to 2999"),
            ({"fulfillment_url": "localhost:8000"}, "--fulfillment-url"),
            ({"fulfillment_url": "http://"}, "--fulfillment-url"),
            ({"fulfillment_url": "http://localhost:x/"}, "--fulfillment-url"),
            ({"fulfillment_url": "javascript:alert(1)"}, "--fulfillment-url"),
            ({"state": Path("/dev/full")}, "/dev/full is no ordinary file.*--state"),
            ({"state": Path("/no/such/folder/state")}, "/no/such/folder/state.*--state"),
        ],
    )
    def test_options_that_cannot_be_are_refused_and_named(self, options, message):
        with pytest.raises(CommandError, match=message):
            call_command("marketplace_simulator", port=0, **options)

    def test_a_busy_port_leaves_the_state_file_free(self, simulator, tmp_path):
        path = tmp_path / "state"
        for _ in range(2):
            with pytest.raises(CommandError, match="Cannot listen"):
                call_command("marketplace_simulator", port=int(simulator.url.rpartition(":")[2]), state=path)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_serves_the_catalog_and_stops_fast_when_told(self, tmp_path, number):
        catalog = tmp_path / "catalog.json"
        catalog.write_text(json.dumps({"products": [PAYG]}))
        options = [f"--catalog={catalog}", "--clock-offset-seconds=-7200"]
        with command(*options, "--fulfillment-url=http://localhost/r") as (process, control):
            state = control.state()
            assert state["products"] == ["reports-payg"]
            assert -7210 < state["clock"]["offset_seconds"] < -7190
            control.reset()
            assert control.state()["products"] == ["reports-payg"]
            process.send_signal(number)
            assert process.wait(10) == 0

    def test_a_killed_one_goes_on_with_its_state_and_takes_new_options(self, tmp_path):
        state = f"--state={tmp_path / 'state'}"
        with command(state, "--speed=1000", "--clock-offset-seconds=86400") as (process, control):
            control.add_product(PAYG)
            sold = control.subscribe("reports-payg")
            control.advance(-3 * 86400)
            before = control.now()
            process.kill()
            process.wait()
        with command(state, "--clock-offset-seconds=86400") as (process, control):
            # The clock went on at its speed, and was not set again.
            assert timedelta() < control.now() - before < timedelta(days=2)
            assert control.state()["clock"]["speed"] == 1000
            assert [each["agreement_id"] for each in control.state()["agreements"]] == [sold.agreement_id]
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        with command(state, "--speed=5", "--no-quotas", "--fulfillment-url=http://x.test/") as (_, control):
            assert control.state()["clock"]["speed"] == 5
            body = urllib.request.urlopen(f"{control.url}/_simulator/switches").read()
            assert {s["name"]: s["value"] for s in json.loads(body)["switches"]}["quotas"] is False

    def test_told_to_stop_under_load_it_keeps_what_it_answered(self, tmp_path):
        path = tmp_path / "state"
        with command(f"--state={path}", "--no-quotas") as (process, control):
            control.add_product(load.PRODUCT)
            posters = load.Posters(control.url, load.licenses(control, 3), threads=16, seed=3)
            posters.start()
            assert posters.first_answer.wait(30)
            process.terminate()
            assert process.wait(15) == 0
            posters.stop()
        assert posters.failures == []
        with load.kept(path) as state:
            billed = load.billed(state)
        assert all(quantities == {billed[key]} for key, quantities in posters.promised.items())

    def test_others_are_let_in_when_that_is_asked_for_with_a_warning(self):
        with command("--host=0.0.0.0", "--allow-others", stderr=subprocess.PIPE) as (process, control):
            port = control.url.rpartition(":")[2]
            assert SimulatorControl(f"http://127.0.0.1:{port}").state()["products"] == []
            process.terminate()
            assert "whoever reaches 0.0.0.0 can read and steer" in process.stderr.read()


@contextmanager
def command(*options, **pipes):
    """`manage.py marketplace_simulator` on a free port; killed at the end if it still runs."""
    arguments = [sys.executable, "manage.py", "marketplace_simulator", "--port=0", *options]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True, **pipes) as process:
        try:
            yield process, SimulatorControl(process.stdout.readline().split()[3].rstrip("/"))
        finally:
            process.kill()


class TestAccidents:
    """What breaks in us is answered in the client's own kind."""

    @pytest.fixture
    def broken(self):
        """A simulator that cannot save any more: its journal was closed under it."""
        state = State()
        with TemporaryDirectory() as folder:
            with journal.keep(state, Path(folder) / "state"):
                pass
            state.products["reports-payg"] = read_product(PAYG)
            with SimulatorServer(state) as server:
                yield server

    def ask(self, server, path, **request):
        try:
            urllib.request.urlopen(urllib.request.Request(server.url + path, **request))
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def test_sdks_get_an_internal_failure_of_their_protocol(self, broken, caplog):
        headers = {"X-Amz-Target": "AmazonSQS.GetQueueUrl", "Content-Type": "application/x-amz-json-1.0"}
        status, answered, body = self.ask(broken, "/", data=b"{}", headers=headers)
        assert (status, json.loads(body)["__type"].split("#")[1]) == (500, "InternalFailure")
        assert answered["x-amzn-RequestId"]
        path = "/service/AWSMPMeteringService/operation/ResolveCustomer"
        status, answered, body = self.ask(broken, path, data=b"")
        assert (status, answered["smithy-protocol"]) == (500, "rpc-v2-cbor")
        assert cbor2.loads(body)["__type"].endswith("#InternalFailure")
        assert "could not be answered" in caplog.text

    def test_scripts_get_json_and_people_a_page(self, broken):
        status, _, body = self.ask(broken, "/_simulator/state")
        assert (status, "log says why" in json.loads(body)["error"]) == (500, True)
        status, answered, body = self.ask(broken, "/")
        assert (status, answered["Content-Type"]) == (500, "text/html; charset=utf-8")
        assert b"simulation" in body
        assert b"Traceback" not in body


class TestHttp:
    def raw(self, simulator, *parts):
        """The answer to bytes sent as they are, part by part."""
        host, port = simulator.url.removeprefix("http://").split(":")
        answered = b""
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            for part in parts:
                connection.sendall(part)
                if b"100-continue" in part:
                    answered += connection.recv(100)
            while got := connection.recv(65536):
                answered += got
        return answered

    HEAD = b"POST /_simulator/clock HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"

    def test_a_chunked_body_is_read(self, simulator):
        chunks = (b'{"freeze": true, ', b'"now": "2026-01-01T00:00:00Z"}', b"")
        body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
        answer = self.raw(simulator, self.HEAD + b"Transfer-Encoding: chunked\r\n\r\n", body)
        assert b'"now": "2026-01-01T00:00:00Z"' in answer

    def test_a_client_that_waits_for_continue_is_told_to(self, simulator):
        body = b'{"freeze": true}'
        head = self.HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        answer = self.raw(simulator, head, body)
        assert answer.startswith(b"HTTP/1.1 100 Continue")
        assert b'"frozen": true' in answer

    def test_large_bodies_are_refused_and_the_next_call_is_served(self, simulator):
        for size, status in ((2 * 1024**2, b" 400 "), (5 * 1024**2, b" 413 "), (65 * 1024**2, b" 413 ")):
            head = self.HEAD + b"Content-Length: %d\r\n\r\n" % size
            # Of the largest only the head is sent: it is refused by its length.
            parts = [head] if size > LARGEST_UPLOAD else [head, b"x" * size]
            assert status in self.raw(simulator, *parts).partition(b"\r\n")[0]
        assert simulator.control.state()["products"] == []

    def test_clients_that_never_finish_their_request_keep_nobody_waiting(self, simulator):
        host, port = simulator.url.removeprefix("http://").split(":")
        dawdlers = [socket.create_connection((host, int(port))) for _ in range(THREADS + 8)]
        try:
            for dawdler in dawdlers:
                dawdler.sendall(self.HEAD + b"Content-Length: 100\r\n\r\n{")
            assert simulator.control.state()["products"] == []
        finally:
            for dawdler in dawdlers:
                dawdler.close()


def test_a_server_on_ipv6_names_itself_so_that_it_is_found():
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with SimulatorServer(host="::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert SimulatorControl(server.url).state()["products"] == []


def test_a_server_can_be_had_without_the_fixture():
    with SimulatorServer() as server:
        assert SimulatorControl(server.url).state()["products"] == []

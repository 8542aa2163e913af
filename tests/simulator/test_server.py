from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import boto3
import pytest
from django.core.management import CommandError, call_command

from billing.simulator.catalog import read_catalog
from billing.simulator.client import SimulatorControl
from billing.simulator.errors import Refused
from billing.simulator.pytest_plugin import RunningSimulator
from billing.simulator.server import SimulatorServer
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
    for service in ("meteringmarketplace", "marketplace-entitlement", "marketplace-agreement", "sqs"):
        service_id = session.client(service).meta.service_model.service_id
        names.add("AWS_ENDPOINT_URL_" + service_id.upper().replace(" ", "_").replace("-", "_"))
    assert set(simulator.endpoint_env) == names


def test_nothing_of_ours_and_no_django_settings_are_imported():
    code = (
        "import sys, billing.simulator.server, billing.simulator.client, billing.simulator.pages as p\n"
        "from billing.simulator.state import State\n"
        "from billing.simulator.render import problem\n"
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

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_serves_the_catalog_and_stops_fast_when_told(self, tmp_path, number):
        catalog = tmp_path / "catalog.json"
        catalog.write_text(json.dumps({"products": [PAYG]}))
        options = ["--port", "0", "--catalog", str(catalog), "--clock-offset-seconds", "-7200"]
        process = subprocess.Popen(
            [
                sys.executable,
                "manage.py",
                "marketplace_simulator",
                *options,
                "--fulfillment-url",
                "http://localhost/r",
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            url = process.stdout.readline().split()[3].rstrip("/")
            control = SimulatorControl(url)
            state = control.state()
            assert state["products"] == ["reports-payg"]
            assert -7210 < state["clock"]["offset_seconds"] < -7190
            control.reset()
            assert control.state()["products"] == ["reports-payg"]
            process.send_signal(number)
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()


def test_a_server_can_be_had_without_the_fixture():
    with SimulatorServer() as server:
        assert SimulatorControl(server.url).state()["products"] == []

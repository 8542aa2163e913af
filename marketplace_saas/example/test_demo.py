"""`manage.py demo --exit` as `make demo EXIT=1` runs it: every process is real."""

import os
import re
import socket
import subprocess
import sys

import pytest
from django.conf import settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def demo(folder, *, web, simulator):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE", "TEST_CELERY_QUEUE")
    }
    return subprocess.run(
        [sys.executable, "manage.py", "demo", f"--web-port={web}", f"--simulator-port={simulator}", "--exit"],
        cwd=settings.BASE_DIR,
        env={**environment, "ENV_FILE": "", "DEBUG": "true", "DATA_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_demo_ends_with_columns_that_agree_and_starts_clean_again(tmp_path):
    folder = tmp_path / ".demo"
    for _ in range(2):
        played = demo(folder, web=free_port(), simulator=free_port())
        assert played.returncode == 0, played.stdout + played.stderr
        rows = re.findall(r"(\S.*?)  +pages +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)", played.stdout)
        assert rows == [
            ("Northwind", "130", "100", "30", "30"),
            ("Lumen Labs", "62.5", "50", "12.5", "12.5"),
            ("Harbor & Co", "12.25", "0", "12.25", "12.25"),
        ]
        assert "WARNING" not in played.stdout + played.stderr
    for log in (folder / "log").glob("*.log"):
        assert "Traceback" not in log.read_text(), log


def test_a_busy_port_is_named_with_the_variable_that_changes_it(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = demo(tmp_path / ".demo", web=port, simulator=free_port())
    assert refused.returncode != 0
    assert f"Port {port} is busy" in refused.stderr
    assert "make demo WEB_PORT=" in refused.stderr


def test_the_demo_refuses_to_wipe_any_other_folder(tmp_path):
    (tmp_path / "mine").mkdir()
    refused = demo(tmp_path / "mine", web=free_port(), simulator=free_port())
    assert refused.returncode != 0
    assert "make demo" in refused.stderr
    assert (tmp_path / "mine").exists()

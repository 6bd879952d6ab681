"""`chainrule studio` as one calls it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from chainrule.cli import main
from chainrule.studio.problems import PROBLEMS


def test_it_prints_its_address_serves_there_and_ends_quietly_by_ctrl_c() -> None:
    command = [sys.executable, "-m", "chainrule", "studio", "neuron", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        line = process.stdout.readline()
        address = re.fullmatch(r"the studio is at (http://127\.0\.0\.1:\d+/\?token=\S+)\n", line)
        assert address, line
        with urllib.request.urlopen(address[1], timeout=20) as response:
            assert b"A single neuron" in response.read()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == "chainrule: interrupted\n"


def test_an_unknown_problem_is_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studio", "neurons"]) == 2
    assert "did you mean neuron" in capsys.readouterr().err
    assert main(["studio", "missing.py"]) == 1
    assert "missing.py" in capsys.readouterr().err


def test_the_help_names_every_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studio", "--help"]) == 0
    told = re.sub(r"\W+", " ", capsys.readouterr().out)
    assert all(name in told.split() for name in PROBLEMS)

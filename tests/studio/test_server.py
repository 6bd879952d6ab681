"""The studio's server serves the one who has its token, from its own page, on this machine, and nobody else."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from chainrule.core.errors import ChainruleError
from chainrule.studio.server import HOST, LARGEST_MESSAGE, Studio, serve
from chainrule.studio.session import Session


@pytest.fixture
def studio() -> Iterator[Studio]:
    listener = socket.socket()
    listener.bind((HOST, 0))
    made = Studio(lambda: Session("neuron"), listener.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(made.app, log_level="error", ws_max_size=LARGEST_MESSAGE))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield made
    server.should_exit = True
    thread.join(10)


def get(address: str, **headers: str) -> tuple[int, str, Any]:
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode(), response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


def live(studio: Studio, token: str | None = None, origin: str | None = "own", host: str = HOST) -> Any:
    address = f"ws://{host}:{studio.port}/live?token={studio.token if token is None else token}"
    given: Any = f"http://{host}:{studio.port}" if origin == "own" else origin
    return connect(address, sock=socket.create_connection((HOST, studio.port)), origin=given, max_size=None)


def test_the_page_comes_with_the_token_and_connects_to_this_server_only(studio: Studio) -> None:
    status, text, headers = get(studio.address)
    assert status == 200 and "<!doctype html>" in text
    assert f"connect-src ws://{HOST}:{studio.port}" in text
    assert headers["Cache-Control"] == "no-store" and headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", "?token=%C3%A4"])
def test_without_the_token_there_is_nothing(studio: Studio, query: str) -> None:
    status, text, _ = get(f"http://{HOST}:{studio.port}/{query}")
    assert status == 403 and "token" in text and studio.token not in text


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Host": "evil.example:80"}, {"Origin": "http://evil.example"}]
)
def test_another_host_or_origin_is_refused(studio: Studio, headers: dict[str, str]) -> None:
    assert get(studio.address, **headers)[0] == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"token": "wrong"},
        {"origin": "http://evil.example"},
        {"origin": None},
        {"origin": "null"},
        {"host": "evil.example"},
    ],
    ids=str,
)
def test_the_socket_wants_token_host_and_origin(studio: Studio, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        live(studio, **wrong)


def test_commands_are_answered_with_states(studio: Studio) -> None:
    with live(studio) as socket_:
        socket_.send(json.dumps({"do": "weight", "parameter": "w", "entry": 0, "value": 1.25}))
        state = json.loads(socket_.recv(10))
        assert state["studio"]["parameters"][0]["values"] == [1.25]
        socket_.send(json.dumps({"do": "run"}))
        steps = [json.loads(socket_.recv(10))["studio"]["step"] for _ in range(3)]
        assert steps == sorted(steps) and steps[-1] > 1
        socket_.send(json.dumps({"do": "pause"}))
        while json.loads(socket_.recv(10))["studio"]["running"]:
            pass


def test_a_command_that_makes_no_sense_gets_a_message_and_the_session_goes_on(studio: Studio) -> None:
    with live(studio) as socket_:
        socket_.send(json.dumps({"do": "fly"}))
        assert "fly" in json.loads(socket_.recv(10))["studio"]["trouble"]
        socket_.send(json.dumps({"do": "step"}))
        assert json.loads(socket_.recv(10))["studio"]["step"] == 1


@pytest.mark.parametrize(
    "message", ["no json", "x" * (LARGEST_MESSAGE + 1), b"\xff\xfe"], ids=["text", "long", "bytes"]
)
def test_what_is_no_command_ends_the_connection_and_not_the_server(studio: Studio, message: Any) -> None:
    with live(studio) as socket_:
        socket_.send(message)
        with pytest.raises(ConnectionClosed):
            socket_.recv(10)
    assert get(studio.address)[0] == 200


def test_each_page_has_a_session_of_its_own(studio: Studio) -> None:
    with live(studio) as one, live(studio) as other:
        one.send(json.dumps({"do": "step"}))
        assert json.loads(one.recv(10))["studio"]["step"] == 1
        other.send(json.dumps({"do": "pause"}))
        assert json.loads(other.recv(10))["studio"]["step"] == 0


def test_it_listens_on_the_loopback_interface_only() -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(ChainruleError, match=f"port {taken.getsockname()[1]} of 127.0.0.1 cannot be used"):
            serve(lambda: Session("neuron"), taken.getsockname()[1])

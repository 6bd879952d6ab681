"""The studio in Chromium: what one does with sliders and buttons arrives in every view at once."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Page, expect

from chainrule.studio.problems import PROBLEMS
from chainrule.studio.server import HOST, Studio
from chainrule.studio.session import Session
from tests.browser.test_page import CONTRAST


@pytest.fixture
def start() -> Iterator[Callable[[str], Studio]]:
    """Starts a studio with a problem."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def started(problem: str) -> Studio:
        listener = socket.socket()
        listener.bind((HOST, 0))
        studio = Studio(lambda: Session(problem), listener.getsockname()[1])
        server = uvicorn.Server(uvicorn.Config(studio.app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        servers.append((server, thread))
        studio.stop = lambda: setattr(server, "should_exit", True)  # type: ignore[attr-defined]
        return studio

    yield started
    for server, thread in servers:
        server.should_exit = True
        thread.join(10)


def step_of(page: Page) -> int:
    return int(page.locator(".count").inner_text().removeprefix("step ").replace(",", ""))


def textbook(page: Page) -> list[str]:
    return page.locator(".textbook-lines td").all_inner_texts()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_problem_opens_and_trains(problem: str, start: Any, open_page: Any, screenshot: Any) -> None:
    page = open_page(start(problem).address, height=1000)
    assert page.locator("#tab-studio").get_attribute("aria-selected") == "true"
    page.click("#studio-step")
    expect(page.locator(".count")).to_have_text("step 1")
    page.click("#studio-run")
    expect(page.locator("#studio-run")).to_have_text("Pause")
    page.wait_for_function("() => parseInt(document.querySelector('.count').textContent.replace(/\\D/g, '')) > 20")
    page.click("#studio-run")
    expect(page.locator("#studio-run")).to_have_text("Train")
    done = step_of(page)
    page.wait_for_timeout(300)
    assert step_of(page) == done
    screenshot(page, f"studio-{problem}")
    page.click("#studio-reset")
    expect(page.locator(".count")).to_have_text("step 0")


def test_a_weight_s_slider_changes_forward_and_backward_at_once(start: Any, open_page: Any) -> None:
    page = open_page(start("neuron").address)
    before = textbook(page)
    assert before[0] == "(−0.8)·1.5 + 0.2 = −1" and before[3] == "(−1.262) · 0.42 = −0.5298"
    slider = page.locator("[id='studio-weight-w-0']")
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".textbook-lines td").first).to_have_text("(−0.738)·1.5 + 0.2 = −0.907")
    now = textbook(page)
    assert now[3] != before[3]
    page.click("#tab-neuron")
    expect(page.locator(".textbook .numeric").first).to_have_text(now[0])
    page.click("#tab-steps")
    expect(page.locator("#graph")).to_contain_text("z · add∂L = " + now[3].rsplit("= ")[1])


def test_the_steps_stay_where_they_are_while_training_changes_the_numbers(start: Any, open_page: Any) -> None:
    page = open_page(start("xor").address)
    page.click("#studio-run")
    page.click("#tab-steps")
    for key in ("b", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    label = page.locator("#step-label").inner_text()
    before = page.locator("#panel").inner_text()
    page.wait_for_function("(text) => document.getElementById('panel').innerText !== text", arg=before)
    assert page.locator("#step-label").inner_text() == label
    page.click("#tab-network")
    before = page.locator("#view-network table").inner_text()
    page.wait_for_function("(text) => document.querySelector('#view-network table').innerText !== text", arg=before)


def test_a_click_in_the_plane_chooses_the_explained_sample(start: Any, open_page: Any) -> None:
    page = open_page(start("xor").address)
    page.locator(".points").click(position={"x": 60, "y": 300})
    expect(page.locator("#studio-input-0 ~ output, label[for=studio-input-0] ~ output").first).to_have_text(
        re.compile(r"^−1\.\d+$")
    )
    page.locator(".datum").nth(2).click(force=True)
    expect(page.locator(".slider output[for=studio-sample]")).to_have_text("2")
    expect(page.locator(".slider output[for=studio-input-0]")).to_have_text("1")


def test_training_bends_the_decision_boundary(start: Any, open_page: Any) -> None:
    page = open_page(start("moons").address)
    before = page.locator(".plane .map").screenshot()
    page.click("#studio-run")
    page.wait_for_function("() => parseFloat(document.querySelector('.loss figcaption .quiet').textContent) < 0.25")
    page.click("#studio-run")
    expect(page.locator("#studio-run")).to_have_text("Train")
    assert page.locator(".plane .map").screenshot() != before


def test_settings_rebuild_the_network_and_the_graph(start: Any, open_page: Any) -> None:
    page = open_page(start("moons").address)
    page.select_option("#studio-activation", "relu")
    page.locator("#studio-depth").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".gradient-bars tr")).to_have_count(8)
    page.click("#tab-steps")
    expect(page.locator("#graph")).to_contain_text("relu")
    page.click("#tab-studio")
    page.select_option("#studio-problem", "cnn")
    expect(page.locator("#heading")).to_have_text("Digits, CNN")
    expect(page.locator(".digit")).to_have_count(2)
    page.click("#tab-steps")
    group = page.locator(".item.group", has_text="conv1")
    before = group.get_attribute("aria-expanded")
    expect(group.locator(".title")).to_be_in_viewport()
    group.locator(".title").click()  # one click, one change, however many graphs there were before
    expect(group).not_to_have_attribute("aria-expanded", str(before))


def test_an_enormous_learning_rate_is_named_as_the_trouble(start: Any, open_page: Any) -> None:
    page = open_page(start("neuron").address)
    page.select_option("#studio-activation", "identity")
    page.locator("#studio-lr").focus()
    page.keyboard.press("End")
    page.click("#studio-run")
    expect(page.locator(".trouble")).to_contain_text("the learning rate is too large", timeout=10_000)
    expect(page.locator("#studio-run")).to_have_text("Train")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("problem", ["neuron", "cnn"])
def test_the_studio_s_text_has_enough_contrast(problem: str, dark: bool, start: Any, open_page: Any) -> None:
    page = open_page(start(problem).address, dark=dark)
    page.click("#studio-step")
    expect(page.locator(".count")).to_have_text("step 1")
    assert page.evaluate(CONTRAST) == []


def test_a_server_that_stops_is_noticed(start: Any, open_page: Any) -> None:
    studio = start("neuron")
    page = open_page(studio.address)
    page.wait_for_timeout(200)
    studio.stop()
    expect(page.locator(".trouble")).to_contain_text("server has stopped", timeout=10_000)
    assert page.locator("#studio-run").is_disabled()


def test_a_phone_shows_the_studio_without_scrolling_sideways(start: Any, open_page: Any, screenshot: Any) -> None:
    page = open_page(start("moons").address, width=390, height=844)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    screenshot(page, "studio-phone")


def test_noise_penalty_and_test_share_are_sliders_and_units_are_drawn(start: Any, open_page: Any) -> None:
    page = open_page(start("moons").address)
    assert page.locator(".unit-row").count() == 2 and page.locator(".unit-row canvas").count() == 12
    assert page.locator(".datum.held").count() == 60
    assert "in the test" in page.locator(".loss figcaption").inner_text()
    page.locator("#studio-test").evaluate("e => { e.value = 0; e.dispatchEvent(new Event('input')); }")
    expect(page.locator(".datum.held")).to_have_count(0)
    expect(page.locator(".loss figcaption")).not_to_contain_text("in the test")
    before = page.locator(".datum").first.get_attribute("cx")
    page.locator("#studio-noise").evaluate("e => { e.value = 1000; e.dispatchEvent(new Event('input')); }")
    page.wait_for_function("cx => document.querySelector('.datum').getAttribute('cx') !== cx", arg=before)
    assert page.locator("#studio-l2").count() == 1

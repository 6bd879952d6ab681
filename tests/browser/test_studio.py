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

import chainrule as cr
from chainrule import nn
from chainrule.nn import functional as F
from chainrule.studio.own import Own
from chainrule.studio.problems import PROBLEMS
from chainrule.studio.server import HOST, Studio
from chainrule.studio.session import Session
from tests.browser.test_page import CONTRAST


def three_classes() -> Own:
    """A script's network that tells three classes of points apart."""
    cr.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3)), cr.randn(60, 2)
    labels = cr.randint(0, 3, (60,))
    return Own("mine.py", model, lambda: F.cross_entropy(model(x), labels), {"x": x, "labels": labels})


@pytest.fixture
def start() -> Iterator[Callable[..., Studio]]:
    """Starts a studio with a problem, or with a script's network."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def started(problem: str, own: Own | None = None) -> Studio:
        listener = socket.socket()
        listener.bind((HOST, 0))
        studio = Studio(lambda: Session(own=own) if own else Session(problem), listener.getsockname()[1])
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
@pytest.mark.parametrize("problem", ["neuron", "hills", "cnn"])
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


@pytest.mark.parametrize("problem", ["neuron", "spiral", "cnn"])
def test_a_phone_shows_the_studio_without_scrolling_sideways(
    problem: str, start: Any, open_page: Any, screenshot: Any
) -> None:
    page = open_page(start(problem).address, width=360, height=780)
    assert not page.locator("#studio-problem").is_visible()  # the picture comes first
    expect(page.locator("#studio-run")).to_be_in_viewport()
    expect(page.locator(".picture")).to_be_in_viewport(ratio=0.5)
    page.get_by_text("Settings", exact=True).click()
    assert page.locator("#studio-problem").is_visible()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
    outside = """() => [...document.querySelectorAll('#view-studio *')].filter(e => e.getClientRects().length)
        .filter(e => { const r = e.getBoundingClientRect(); return r.width > 1 && (r.right > 361 || r.left < -1); })
        .map(e => e.tagName + '.' + e.className)"""
    assert page.evaluate(outside) == []
    screenshot(page, f"studio-phone-{problem}")


def test_inputs_are_switched_by_keyboard_and_the_formulas_follow(start: Any, open_page: Any, screenshot: Any) -> None:
    page = open_page(start("circle").address, height=1000)
    squares, plain, (last,) = (
        [page.get_by_role("button", name=f"input {name}", exact=True) for name in names]
        for names in (("x₁²", "x₂²"), ("x₁", "x₂"), ("sin 3x₁",))
    )
    for button, pressed in [*((b, "true") for b in plain), *((b, "false") for b in squares)]:
        expect(button).to_have_attribute("aria-pressed", pressed)
    for button in [*squares, last]:
        button.focus()
        page.keyboard.press("Enter")
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(button).to_be_focused()
    for button in plain:
        button.press("Space")
        expect(button).to_have_attribute("aria-pressed", "false")
    network = page.locator(".network-picture")
    expect(network).to_have_attribute("aria-label", re.compile("reads x₁², x₂², sin 3x₁; hidden units: 4; one output"))
    expect(page.locator(".weight-line")).to_have_count(3 * 4 + 4)
    screenshot(page, "studio-inputs")
    page.click("#tab-steps")
    expect(page.locator("#graph")).to_contain_text("sin")
    page.click("#tab-studio")
    for button in squares:
        button.click()
        expect(button).to_have_attribute("aria-pressed", "false")
    last.click()  # the network has to read something
    expect(last).to_have_attribute("aria-pressed", "true")


def test_a_line_of_the_network_is_a_weight_and_its_derivative(start: Any, open_page: Any) -> None:
    page = open_page(start("moons").address, height=1000)
    line = page.locator(".weight-line").nth(3)
    assert re.fullmatch(r"hidden1\.weight\[1, 1\] = \S+, ∂L/∂w = \S+", line.locator("title").text_content() or "")
    width = line.evaluate("e => e.style.strokeWidth")
    line.dispatch_event("click")
    expect(page.locator(".one-weight label")).to_have_text("hidden1.weight[1, 1]")
    page.select_option("#studio-lines", "gradient")
    assert page.locator(".weight-line").nth(3).evaluate("e => e.style.strokeWidth") != width
    before = page.locator(".weight-line").nth(3).evaluate("e => e.style.strokeWidth")
    page.click("#studio-step")
    expect(page.locator(".count")).to_have_text("step 1")
    assert page.locator(".weight-line").nth(3).evaluate("e => e.style.strokeWidth") != before


def test_numbers_over_the_plane_have_their_own_losses_and_colours(start: Any, open_page: Any) -> None:
    page = open_page(start("slope").address, height=1000)
    assert page.locator("#studio-loss option").all_inner_texts() == ["squared error", "absolute error", "Huber"]
    assert page.locator(".colour-key li").all_inner_texts() == ["−1", "0", "1"]
    page.select_option("#studio-loss", "Huber")
    page.click("#tab-layers")
    expect(page.locator("#view-layers")).to_contain_text("huber_loss")
    page.click("#tab-studio")
    page.select_option("#studio-problem", "spiral")
    expect(page.locator(".colour-key li")).to_have_text(["class 0", "class 1"])
    assert page.locator("#studio-problem optgroup").count() == 4


def test_a_third_class_has_a_colour_of_its_own(open_page: Any, start: Any, screenshot: Any) -> None:
    page = open_page(start("", three_classes()).address, height=1000)
    assert page.locator(".colour-key li").all_inner_texts() == ["class 0", "class 1", "class 2"]
    colours = page.evaluate("[...document.querySelectorAll('.datum')].map(e => getComputedStyle(e).fill)")
    assert len(set(colours)) == 3 and page.locator(".datum.neutral").count() == 0
    assert not page.locator(".wired").is_visible()
    for colour in set(colours):
        red, green, blue = map(int, re.findall(r"\d+", colour))
        assert max(red, green, blue) - min(red, green, blue) > 60  # no grey
    screenshot(page, "studio-three-classes")


def test_noise_penalty_and_test_share_are_sliders_and_units_are_drawn(start: Any, open_page: Any) -> None:
    page = open_page(start("moons").address)
    assert page.locator(".network-picture span.node canvas").count() == 13  # 6 and 6 hidden units and the output
    assert page.locator(".datum.held").count() == 60
    assert "in the test" in page.locator(".loss figcaption").inner_text()
    page.locator("#studio-test").evaluate("e => { e.value = 0; e.dispatchEvent(new Event('input')); }")
    expect(page.locator(".datum.held")).to_have_count(0)
    expect(page.locator(".loss figcaption")).not_to_contain_text("in the test")
    before = page.locator(".datum").first.get_attribute("cx")
    page.locator("#studio-noise").evaluate("e => { e.value = 1000; e.dispatchEvent(new Event('input')); }")
    page.wait_for_function("cx => document.querySelector('.datum').getAttribute('cx') !== cx", arg=before)
    assert page.locator("#studio-l2").count() == 1


@pytest.mark.parametrize("problem", ["neuron", "hills", "digits"])
def test_a_screen_reader_finds_every_control_of_the_studio_by_its_name(
    problem: str, start: Any, open_page: Any
) -> None:
    page = open_page(start(problem).address)
    tree = page.locator("#view-studio").aria_snapshot()
    wanted = ['button "Train"', 'button "One step"', 'combobox "Problem"', 'slider "Learning rate"', "Loss, now"]
    if problem == "hills":
        wanted += ['button "input x₁" [pressed]', 'button "input sin 3x₂"', 'slider "L1 penalty (makes weights 0)"']
        wanted += ['combobox "Lines show"', 'img "What the network answers over the plane', 'list "Colours"']
        wanted += ['slider "input x[0]"', 'slider "sample"', 'img "unit 0 of f1: blue below 0, orange above"']
        wanted += ["The network reads x₁, x₂; hidden units: 8, 8; one output"]
    for line in wanted:
        assert line in tree, line
    unnamed = page.evaluate(
        "[...document.querySelectorAll('#view-studio :is(button, input, select, [role=img])')]"
        ".filter((e) => e.checkVisibility() && !e.textContent.trim() && !e.ariaLabel && !e.labels?.length)"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert unnamed == []


def test_everything_in_the_studio_is_reached_by_tab(start: Any, open_page: Any) -> None:
    page = open_page(start("hills").address, height=1000)
    wanted = page.evaluate(
        "[...document.querySelectorAll('#view-studio :is(button, input, select, canvas[tabindex])')]"
        ".filter((e) => e.checkVisibility() && !e.disabled).length"
    )
    page.locator("#studio-run").focus()
    page.evaluate("window.reached = new Set()")
    for _ in range(wanted + 2):
        page.evaluate("(e => e.closest('#view-studio') && reached.add(e))(document.activeElement)")
        page.keyboard.press("Tab")
    assert page.evaluate("reached.size") == wanted

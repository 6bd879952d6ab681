"""The page in Chromium: stepping, search, keyboard, colours, phone, screen reader, size and speed."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import examples

ALL = list(examples.PAGES)


def press(page: Page, keys: str) -> None:
    for key in keys.split():
        page.keyboard.press(key)
    settle(page)


def settle(page: Page) -> None:
    """Wait until what a key did is painted."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def label(page: Page) -> str:
    return page.locator("#step-label").inner_text()


def spoken(page: Page) -> str:
    return page.locator("#live").inner_text()


@pytest.mark.parametrize("name", ALL)
def test_a_page_opens_and_walks_to_its_end_and_back(name: str, open_page: Any, screenshot: Any) -> None:
    page = open_page(name)
    assert label(page) == "overview"
    screenshot(page, f"{name}-overview")
    press(page, "End")
    assert re.fullmatch(r"backward (\d+) of \1", label(page))
    screenshot(page, f"{name}-end")
    press(page, "ArrowLeft Home")
    assert label(page) == "overview"


def test_buttons_step_forward_through_the_computation_then_back_through_the_derivatives(open_page: Any) -> None:
    page = open_page("neuron")
    seen = []
    while page.locator("#step-on").is_enabled():
        page.click("#step-on")
        seen.append(label(page))
        expect(page.locator(".item.active")).to_have_count(1)
        expect(page.locator("#panel math").first).to_be_visible()
        assert spoken(page).startswith(label(page))
    assert seen[0] == "forward 1 of 6" and seen[5] == "forward 6 of 6" and seen[6] == "backward 1 of 9"
    page.click("#step-back")
    assert label(page) == "backward 8 of 9"


def test_a_step_shows_its_edge_formula_numbers_words_and_source(open_page: Any, screenshot: Any) -> None:
    page = open_page("neuron")
    press(page, "b ArrowRight ArrowRight ArrowRight ArrowRight")  # ∂L/∂z = ∂L/∂a · (1 − a²)
    panel = page.locator("#panel")
    active = page.locator(".item.active")
    assert "z · add" in active.text_content() and "∂L = −0.5298" in active.text_content()
    expect(page.locator(".edge.active")).to_have_count(1)
    assert "∂L/∂z" in (page.locator(".equation math").get_attribute("aria-label") or "")
    text = panel.inner_text()
    for number in ("(−1.262)", "0.42", "−0.5298"):
        assert number in text
    assert "a = cr.tanh(z)" in page.locator("#panel").inner_text() or "z = w * x + b" in text
    screenshot(page, "neuron-step")


def test_forward_steps_show_values_only_as_far_as_they_are_computed(open_page: Any) -> None:
    page = open_page("neuron")
    press(page, "f")
    assert page.locator(".item.waiting").count() == 5
    press(page, "ArrowRight")
    assert page.locator(".item.waiting").count() == 4
    press(page, "b")
    assert page.locator(".item.derived").count() == 1
    press(page, "End")
    assert page.locator(".item.derived").count() == 9


def test_the_slider_goes_to_any_step(open_page: Any) -> None:
    page = open_page("neuron")
    page.locator("#step-slider").focus()
    press(page, "ArrowRight ArrowRight ArrowRight")
    assert label(page) == "forward 3 of 6"
    assert page.locator("#step-slider").get_attribute("aria-valuetext") == "forward 3 of 6"


def test_playing_walks_by_itself_until_it_is_paused(open_page: Any) -> None:
    page = open_page("neuron")
    page.click("#step-play")
    expect(page.locator("#step-label")).to_have_text("forward 2 of 6", timeout=6000)
    page.click("#step-play")
    stopped = label(page)
    page.wait_for_timeout(1800)
    assert label(page) == stopped


def test_shares_of_a_sum_add_up(open_page: Any, screenshot: Any) -> None:
    page = open_page("residual")
    page.click("#open-all")
    press(page, "b")
    for _ in range(200):
        if page.locator(".shares").count():
            break
        press(page, "ArrowRight")
    rows = page.locator(".shares tbody tr td:nth-child(3)").all_inner_texts()
    assert len(rows) >= 2
    total = sum(float(row.replace("−", "-").replace("%", "")) for row in rows)
    assert total == pytest.approx(100, abs=1.5)
    screenshot(page, "residual-sum")


def test_search_finds_by_name_operation_and_module_and_goes_there_by_keyboard(open_page: Any, screenshot: Any) -> None:
    page = open_page("residual")
    press(page, "/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("3.down weight")
    first = page.locator("#found [aria-selected=true]")
    assert "3.down.weight" in first.inner_text()
    screenshot(page, "residual-search")
    press(page, "Enter")
    active = page.locator(".item.active")
    expect(active).to_have_count(1)
    assert "weight" in active.text_content()
    press(page, "/")
    page.locator("#search").fill("no such thing")
    assert "nothing of that name" in page.locator("#found").inner_text()
    press(page, "Escape")
    expect(page.locator("#found")).to_be_hidden()


def test_modules_open_and_close_by_keyboard_and_stay_at_the_step(open_page: Any) -> None:
    page = open_page("residual")
    press(page, "b")
    for _ in range(12):
        press(page, "ArrowRight")
        if "5 Block" in page.locator("#panel").inner_text():
            break
    before = page.locator("#panel h2").inner_text()
    group = page.locator(".item.group.active")
    assert group.get_attribute("aria-expanded") == "false"
    press(page, "o")
    assert page.locator(".item.frame", has_text="5 · Block").get_attribute("aria-expanded") == "true"
    assert "in one stop" not in page.locator("#panel").inner_text()
    press(page, "ArrowRight ArrowRight")
    page.locator(".item.frame", has_text="5 · Block").focus()
    press(page, "Enter")
    assert page.locator("#panel h2").inner_text() == before
    assert page.locator(".item.group.active").get_attribute("aria-expanded") == "false"


def test_clicking_an_item_shows_it_and_dragging_moves_the_drawing(open_page: Any) -> None:
    page = open_page("neuron")
    item = page.locator(".item", has_text="a · tanh")
    item.click()
    assert "∂L/∂a" in page.locator("#panel").inner_text()
    before = item.bounding_box()
    page.mouse.move(80, 650)
    page.mouse.down()
    page.mouse.move(180, 600, steps=4)
    page.mouse.up()
    settle(page)
    after = item.bounding_box()
    assert before and after
    assert after["x"] - before["x"] == pytest.approx(100, abs=8) and after["y"] - before["y"] == pytest.approx(
        -50, abs=8
    )
    press(page, "+")
    settle(page)
    larger = item.bounding_box()
    assert larger and larger["width"] > 1.2 * after["width"]


def test_everything_is_reached_by_tab_and_focus_is_visible(open_page: Any) -> None:
    page = open_page("mlp")
    press(page, "ArrowRight")
    reached = []
    for _ in range(40):
        press(page, "Tab")
        reached.append(
            page.evaluate(
                """() => { const e = document.activeElement, s = getComputedStyle(e);
                return [e.id || e.tagName, s.outlineStyle !== "none" || s.boxShadow !== "none"]; }"""
            )
        )
    names = [name for name, _ in reached]
    for wanted in ("tab-steps", "search", "theme", "help", "open-all", "zoom-in", "step-on", "step-slider", "CANVAS"):
        assert wanted in names
    assert [name for name, visible in reached if not visible and name != "BODY"] == []


def test_a_heat_map_is_read_cell_by_cell_with_the_keyboard(open_page: Any) -> None:
    page = open_page("mlp")
    page.locator("#panel canvas").first.focus()
    press(page, "ArrowRight ArrowDown")
    first = page.locator("#panel .readout").first
    assert re.match(r"row 1, column 1 ≈ ", first.inner_text())
    assert label(page) == "overview"  # the arrows did not step meanwhile


def test_help_lists_the_keys_and_closes_by_escape(open_page: Any) -> None:
    page = open_page("neuron")
    press(page, "?")
    expect(page.locator("#keys")).to_be_visible()
    press(page, "Escape")
    expect(page.locator("#keys")).to_be_hidden()


def test_the_theme_follows_the_system_and_the_button_repaints_the_heat_maps(open_page: Any, screenshot: Any) -> None:
    page = open_page("mlp", dark=True)
    background = "getComputedStyle(document.querySelector('.panel')).backgroundColor"
    canvas = page.locator("#panel canvas").first
    dark = page.evaluate(background), canvas.screenshot()
    screenshot(page, "mlp-dark")
    page.click("#theme")
    light = page.evaluate(background), canvas.screenshot()
    assert dark[0] != light[0] and dark[1] != light[1]
    assert light[0] == "rgb(255, 255, 255)"
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate(background) == light[0]  # the choice is remembered


CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (t) => (t.match(/[\\d.]+/g) || []).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    const apart = e.closest("svg, math, button:disabled, .visually-hidden, .skip, dialog");
    if (!own || apart || !e.checkVisibility()) continue;
    const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(`${e.tagName}.${e.className} "${e.textContent.trim().slice(0, 30)}" ${ratio.toFixed(2)}`);
  }
  return bad;
}"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("view", ["steps", "neuron", "network", "training"])
def test_text_has_a_contrast_of_at_least_4_5(view: str, dark: bool, open_page: Any, screenshot: Any) -> None:
    page = open_page("mlp", dark=dark)
    page.click(f"#tab-{view}")
    press(page, "b" if view == "steps" else "ArrowRight")
    assert page.evaluate(CONTRAST) == []
    screenshot(page, f"mlp-{view}-{'dark' if dark else 'light'}")


def test_a_screen_reader_finds_named_controls_and_hears_each_step(open_page: Any) -> None:
    page = open_page("residual")
    tree = page.locator("body").aria_snapshot()
    wanted = [
        'tablist "Views"',
        'tab "Steps" [selected]',
        'button "Next step (→)"',
        'slider "Step of the computation"',
        'combobox "Search nodes and modules"',
        'article "Explanation of the step"',
        "status",
    ]
    for line in wanted:
        assert line in tree, line
    assert re.search(r'button "closed module 3 · Block', tree)
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select, canvas, [role=img]')]"
        ".filter((e) => e.checkVisibility() && !e.textContent.trim() && !e.ariaLabel && !e.labels?.length)"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert unnamed == []
    press(page, "b")
    first = spoken(page)
    press(page, "ArrowRight")
    assert first.startswith("backward 1") and spoken(page).startswith("backward 2") and len(spoken(page)) > 30


@pytest.mark.parametrize("name", ["mlp", "residual", "evil"])
def test_a_phone_shows_everything_without_scrolling_sideways(name: str, open_page: Any, screenshot: Any) -> None:
    page = open_page(name, width=390, height=844)
    for tab in page.locator("[role=tab]:visible").all():
        tab.click()
        width = page.evaluate("document.scrollingElement.scrollWidth")
        assert width <= 390, tab.inner_text()
        screenshot(page, f"{name}-phone-{tab.inner_text().lower()}")
    page.click("#tab-steps")
    expect(page.locator("#step-on")).to_be_in_viewport()
    page.click("#step-on")
    assert label(page).startswith("forward 1")


def test_names_that_are_markup_show_as_text_and_run_nothing(open_page: Any) -> None:
    page = open_page("evil")
    assert examples.EVIL in page.locator("#panel").inner_text()
    press(page, "/")
    page.keyboard.type("script")
    assert "<script>" in page.locator("#found").inner_text()
    assert "<script>" in page.locator("#graph").text_content()
    press(page, "Enter End Home b ArrowRight ArrowRight")
    for tab in page.locator("[role=tab]:visible").all():
        tab.click()
    assert page.evaluate("document.scripts.length") == 2
    assert "evil" not in page.title().replace(examples.EVIL, "")


def test_it_works_in_a_notebook_s_sandboxed_frame(
    browser: Any, tmp_path: Path, pages: dict[str, Path], open_page: Any
) -> None:
    text = pages["neuron"].read_text(encoding="utf-8")
    file = tmp_path / "notebook.html"
    frame = f'<iframe srcdoc="{html.escape(text)}" sandbox="allow-scripts" width="900" height="640"></iframe>'
    file.write_text(f"<!doctype html><title>notebook</title>{frame}", encoding="utf-8")
    page = open_page(file, reduced_motion="reduce")
    inside = page.frame_locator("iframe")
    inside.locator("#step-on").click()
    expect(inside.locator("#step-label")).to_have_text("forward 1 of 6")
    inside.locator("#theme").click()


def test_the_neuron_view_goes_through_the_textbook_s_steps(open_page: Any, screenshot: Any) -> None:
    page = open_page("neuron")
    page.click("#tab-neuron")
    steps = page.locator(".textbook li")
    assert steps.count() == 7
    numbers = page.locator(".textbook .numeric").all_inner_texts()
    assert numbers[3] == "(−1.262) · 0.42 = −0.5298"
    assert numbers[4].endswith("= −0.7948") and numbers[6].endswith("= 0.4239")
    press(page, "ArrowRight ArrowRight ArrowRight")
    expect(page.locator(".textbook li.active")).to_have_count(1)
    assert spoken(page).startswith("∂L/∂a")
    screenshot(page, "neuron-textbook")


def test_another_neuron_can_be_chosen(open_page: Any) -> None:
    page = open_page("mlp")
    page.click("#tab-neuron")
    before = page.locator(".textbook .numeric").all_inner_texts()
    page.select_option("#neuron-index", "1")
    assert page.locator(".textbook .numeric").all_inner_texts() != before
    page.select_option("#neuron-layer", "output")
    assert page.locator(".textbook li").count() == 5  # no activation of its own


def test_pixels_heads_and_gates_are_neurons_too(open_page: Any, screenshot: Any) -> None:
    page = open_page("sequence")
    page.click("#tab-neuron")
    layers = page.locator("#neuron-layer option").all_inner_texts()
    assert layers == ["conv", "rnn.l0", "attend.in_proj", "attend, heads", "attend.out_proj", "out"]
    page.select_option("#neuron-layer", "conv")
    assert "all pixels share the kernel" in page.locator(".textbook").inner_text()
    assert re.match(r"\d+ at \(\d+\)", page.locator("#neuron-index option").first.inner_text())
    page.select_option("#neuron-layer", "rnn.l0")
    texts = page.locator(".textbook").inner_text()
    assert "states h of the step before" in texts and "sigmoid(" in texts
    screenshot(page, "neuron-gate")
    page.select_option("#neuron-layer", "attend, heads")
    assert page.locator(".neuron .head").all_text_contents() == ["∂L/∂v", "∂L/∂A", "L"]
    assert page.locator(".neuron .bias").count() == 0
    assert "weighted by the attention A" in page.locator(".textbook").inner_text()


def test_the_network_view_leads_to_a_layer(open_page: Any) -> None:
    page = open_page("residual")
    page.click("#tab-network")
    assert page.locator(".numbers tbody tr").count() == 41
    page.locator(".numbers .link", has_text="2.up").click()
    assert page.locator("#tab-steps").get_attribute("aria-selected") == "true"
    assert "2.up" in page.locator("#panel").inner_text()


def test_training_is_scrubbed_by_key_slider_and_pointer(open_page: Any) -> None:
    page = open_page("mlp")
    page.click("#tab-training")
    caption = page.locator("#view-training caption")
    assert caption.inner_text().startswith("Step 20: loss")
    press(page, "ArrowLeft ArrowLeft")
    assert caption.inner_text().startswith("Step 18: loss")
    page.locator(".map").hover(position={"x": 2, "y": 5})
    assert caption.inner_text().startswith("Step 1: loss")
    before = page.locator(".legend .bar").last.get_attribute("style")
    page.select_option("#statistic", "mean")
    assert page.locator(".legend .bar").last.get_attribute("style") != before


PAINTED = """async () => {
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.getEntriesByName("ready")[0].startTime;
}"""


def test_five_thousand_nodes_open_in_two_seconds_and_step_without_lag(open_page: Any, pages: dict[str, Path]) -> None:
    page = open_page("long")
    packed = page.evaluate("document.getElementById('document').textContent")
    assert len(json.loads(gzip.decompress(base64.b64decode(packed)))["explanation"]["nodes"]) >= 5000
    assert pages["long"].stat().st_size < 1_000_000
    # The fastest of three: what else runs on the machine is not the page's doing.
    openings = []
    for _ in range(3):
        page.reload()
        page.wait_for_selector("html[data-ready]")
        openings.append(page.evaluate(PAINTED))
    opened = min(openings)
    assert opened < 2000, openings
    steps = page.evaluate(
        """async () => {
          const times = [];
          for (let i = 0; i < 40; i++) {
            const start = performance.now();
            document.getElementById("step-on").click();
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            times.push(performance.now() - start);
          }
          return times.sort((a, b) => a - b);
        }"""
    )
    print(f"5,000 nodes: open {opened:.0f} ms, step median {steps[20]:.0f} ms, slowest {steps[-1]:.0f} ms")
    assert steps[20] < 50 and steps[-1] < 250


def test_pages_of_real_networks_stay_under_two_megabytes(pages: dict[str, Path]) -> None:
    assert {name: pages[name].stat().st_size for name in ("neuron", "mlp", "residual")} == pytest.approx(
        dict.fromkeys(("neuron", "mlp", "residual"), 1000000), abs=1_000_000
    )


INSIDE = """() => [...document.querySelectorAll('.page-view:not([hidden]) :is(svg, table, canvas, select, li, td)')]
    .filter(e => e.getClientRects().length && !e.closest('thead'))
    .filter(e => { const r = e.getBoundingClientRect(); return r.right > innerWidth + 1 || r.left < -1; })
    .map(e => e.tagName + '.' + e.getAttribute('class'))"""


@pytest.mark.parametrize("name", ["neuron", "mlp", "sequence"])
def test_on_a_phone_diagrams_and_tables_fit(name: str, open_page: Any, screenshot: Any) -> None:
    page = open_page(name, width=360, height=780)
    for tab in ("neuron", "training"):
        if page.locator(f"#tab-{tab}").is_visible():
            page.click(f"#tab-{tab}")
            assert page.evaluate(INSIDE) == []
            screenshot(page, f"{name}-small-phone-{tab}")
    page.click("#tab-neuron")
    inside = page.locator("svg.neuron").evaluate(
        """e => { const b = e.getBBox(), v = e.viewBox.baseVal;
            return [b.x - v.x, v.x + v.width - b.x - b.width, v.y + v.height - b.y - b.height]; }"""
    )
    assert min(inside) > -2, inside
    page.set_viewport_size({"width": 1000, "height": 780})  # turned round, the diagram is drawn anew
    page.wait_for_function("() => document.querySelector('svg.neuron').viewBox.baseVal.width > 600")


def test_the_cards_of_a_phone_are_still_a_table_to_a_screen_reader(open_page: Any) -> None:
    page = open_page("mlp", width=360, height=780)
    page.click("#tab-training")
    table = page.get_by_role("table", name=re.compile("Step"))
    assert table.get_by_role("row").count() == 7  # the head and six layers
    cell = table.get_by_role("row", name=re.compile("^hidden1")).get_by_role("cell").first
    assert cell.is_visible() and cell.get_attribute("data-label") == "rms ∂L/∂output"


def test_parentheses_are_as_high_as_the_fractions_in_them(open_page: Any) -> None:
    page = open_page("mlp")
    press(page, "End")
    marks = page.locator("#panel mo[stretchy=true]")
    expect(marks.first).to_be_visible()
    page.wait_for_timeout(100)
    low = """es => es.filter(e => e.getBoundingClientRect().height
        < 0.8 * e.parentElement.querySelector('mfrac').getBoundingClientRect().height).length"""
    assert marks.count() >= 2 and marks.evaluate_all(low) == 0

"""The page is one file that needs nothing else, tells the truth, and shows names as text."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.errors import ChainruleError
from chainrule.data.files import OutputError
from chainrule.explain.page import bundle, contents, frame, render
from chainrule.nn import functional as F
from chainrule.optim import SGD
from chainrule.train import course
from chainrule.train.metrics import MetricsLog
from chainrule.train.runs import RunError, new_run
from chainrule.train.statistics import Probe

EVIL = '</script><script>alert("1")</script><img src=x onerror=alert(2)>'


class MLP(nn.Module):
    def __init__(self) -> None:
        self.hidden = nn.Linear(20, 12)
        self.f = nn.Tanh()
        self.output = nn.Linear(12, 3)

    def forward(self, x: Any) -> Any:
        return self.output(self.f(self.hidden(x)))


def mlp() -> tuple[MLP, Any, Any]:
    cr.manual_seed(1)
    model = MLP().double()
    x = cr.randn(6, 20, dtype="float64")
    return model, x, F.cross_entropy(model(x), cr.randint(0, 3, (6,)))


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text inside each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found:
            self.inside.append((self.found[-1][0], data))

    def text(self, tag: str) -> list[str]:
        return [data for name, data in self.inside if name == tag and data.strip()]


def test_the_page_refers_to_nothing_outside_itself() -> None:
    _, _, loss = mlp()
    found = Elements(render(cr.explain(loss))).found
    addresses = [
        value for _, attrs in found for key, value in attrs.items() if key in ("src", "href", "srcset", "data")
    ]
    assert sorted(addresses) == ["#panel", "data:,"]


def test_the_policy_allows_this_script_and_style_and_no_connection() -> None:
    _, _, loss = mlp()
    page = Elements(render(cr.explain(loss)))
    policy = next(
        a["content"] for t, a in page.found if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    document, script = page.text("script")
    assert rules["default-src"] == rules["connect-src"] == "'none'"
    assert rules["script-src"] == digest(script)
    assert rules["style-src"] == digest(page.text("style")[0])
    assert json.loads(document)["explanation"]["version"] == 1


def test_names_of_modules_and_source_lines_cannot_become_markup() -> None:
    Evil = type(EVIL, (nn.Linear,), {})
    model = nn.Sequential(Evil(2, 2), nn.Linear(2, 1))
    explanation = cr.explain(model(cr.ones((1, 2))).sum(), names={EVIL: 0})
    text = render(explanation)
    tags = [tag for tag, _ in Elements(text).found]
    assert tags.count("script") == 2 and "img" not in tags
    kinds = {module["kind"] for module in json.loads(Elements(text).text("script")[0])["explanation"]["modules"]}
    assert EVIL in kinds


def test_a_notebook_s_frame_holds_the_page_escaped_and_boxed_in() -> None:
    _, _, loss = mlp()
    explanation = cr.explain(loss)
    (tag, attributes), *others = Elements(frame(explanation)).found
    assert tag == "iframe" and not others
    assert attributes["sandbox"] == "allow-scripts"
    assert attributes["srcdoc"] == render(explanation)
    assert explanation._repr_html_() == frame(explanation)
    assert html.unescape(frame(explanation)).count("<iframe") == 1


def test_saving_replaces_the_file_and_reports_one_that_cannot_be_written(tmp_path: Path) -> None:
    _, _, loss = mlp()
    explanation = cr.explain(loss)
    target = tmp_path / "why.html"
    target.write_text("old")
    assert explanation.save(target) == target
    assert target.read_text(encoding="utf-8") == render(explanation)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        explanation.save(tmp_path / "file" / "why.html")


def test_a_neuron_s_numbers_are_those_of_the_engine() -> None:
    model, x, loss = mlp()
    z = model.hidden(x)
    a = model.f(z)
    found = [n for n in contents(cr.explain(loss))["neurons"] if n["layer"] == "hidden"]
    assert len(found) == 10
    for n in found:
        row, unit = n["sample"], n["index"]
        assert n["activation"] == "tanh"
        assert n["z"] == pytest.approx(z.numpy()[row, unit], rel=1e-5)
        assert n["a"] == pytest.approx(a.numpy()[row, unit], rel=1e-5)
        assert n["slope"] == pytest.approx(1 - a.numpy()[row, unit] ** 2, rel=1e-5)
        assert n["dL_dz"] == pytest.approx(n["dL_da"] * n["slope"], rel=1e-4)
        products = sum(t["w"] * t["x"] for t in n["terms"]) + n["rest"]["sum"] + n["b"]
        assert products == pytest.approx(n["z"], abs=1e-4)
        assert n["rest"]["count"] + len(n["terms"]) == n["inputs"] == 20
        for term in n["terms"]:
            assert term["w"] == pytest.approx(model.hidden.weight.numpy()[unit, term["i"]], rel=1e-5)
            assert term["dW"] == pytest.approx(n["dL_dz"] * x.numpy()[row, term["i"]], rel=1e-4)


def test_the_parts_of_all_samples_add_up_to_the_bias_s_gradient() -> None:
    model, x, _ = mlp()
    loss = F.cross_entropy(model(x[:1]), cr.tensor([2]))
    (bias,) = cr.grad(loss, [model.output.bias])
    found = {n["index"]: n["dL_dz"] for n in contents(cr.explain(loss))["neurons"] if n["layer"] == "output"}
    assert [found[i] for i in range(3)] == pytest.approx(bias.numpy(), rel=1e-5)


def test_a_neuron_written_with_numbers_is_found() -> None:
    x, w, b = (cr.tensor(v, dtype="float64", requires_grad=True) for v in (1.5, -0.8, 0.2))
    a = cr.tanh(w * x + b)
    (n,) = contents(cr.explain((a - 0.5) ** 2 / 2, names={"x": x, "w": w, "b": b, "a": a}))["neurons"]
    (term,) = n["terms"]
    assert (term["x"], term["w"], n["b"], n["z"]) == (1.5, -0.8, 0.2, pytest.approx(-1.0))
    dx, dw, db = (g.item() for g in cr.grad((a - 0.5) ** 2 / 2, [x, w, b]))
    assert (term["dx"], term["dW"], n["dL_dz"]) == pytest.approx((dx, dw, db), rel=1e-5)


def adds_up(n: dict[str, Any]) -> bool:
    """Whether a neuron's terms give its z, and its slope its gradient."""
    z = sum(t["w"] * t["x"] for t in n["terms"]) + (n["rest"]["sum"] if n["rest"] else 0) + (n["b"] or 0)
    back = n["dL_da"] * n["slope"]
    return z == pytest.approx(n["z"], rel=1e-4, abs=1e-5) and back == pytest.approx(n["dL_dz"], rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_s_pixel_is_a_neuron_over_what_its_kernel_sees(groups: int) -> None:
    cr.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=groups).double()
    x = cr.randn(1, 4, 5, 5, dtype="float64", requires_grad=True)
    z = conv(x)
    loss = (cr.tanh(z[:, :, :1, :1]) ** 2).sum()  # one pixel: its part is the whole gradient
    found = contents(cr.explain(loss))["neurons"]
    to_w, to_x = (g.numpy() for g in cr.grad(loss, [conv.weight, x]))
    assert len(found) == 6 and all(map(adds_up, found))
    for n in found:
        channel = int(n["index"].split()[0])
        assert n["index"].endswith("at (0, 0)") and n["z"] == pytest.approx(z.numpy()[0, channel, 0, 0], rel=1e-5)
        for term in n["terms"]:
            c, row, column = map(int, term["i"].split(", "))
            if row < 0 or column < 0:
                assert term["x"] == 0
                continue
            place = channel, c - (channel // (6 // groups)) * (4 // groups), (row + 1) // 2, (column + 1) // 2
            assert term["dW"] == pytest.approx(to_w[place], rel=1e-4, abs=1e-9)
            assert term["w"] == pytest.approx(conv.weight.numpy()[place], rel=1e-5)
            assert abs(term["dx"]) <= np.abs(n["dL_dz"] * term["w"]) * 1.001 and np.isfinite(to_x[0, c, row, column])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_gate_is_a_neuron_over_inputs_and_states(kind: Any) -> None:
    cr.manual_seed(0)
    layer = kind(4, 3).double()
    x = cr.randn(1, 1, 4, dtype="float64", requires_grad=True)  # one step of one sample: its part is the whole
    loss = (layer(x)[0] ** 2).sum()
    to_w, to_b = (g.numpy() for g in cr.grad(loss, [layer.weight_ih_l0, layer.bias_ih_l0]))
    found = contents(cr.explain(loss))["neurons"]
    gates = {nn.LSTM: ["input", "forget", "content", "output"], nn.GRU: ["reset", "update", "content"]}.get(
        kind, ["state"]
    )
    assert {n["index"].split()[0] for n in found} == set(gates)
    for n in found:
        assert adds_up(n)
        row = gates.index(n["index"].split()[0]) * 3 + int(n["index"].split("unit ")[1].split(",")[0])
        assert n["dL_dz"] == pytest.approx(to_b[row], rel=1e-5, abs=1e-12)
        for term in (t for t in n["terms"] if t["i"].startswith("x ")):
            assert term["dW"] == pytest.approx(to_w[row, int(term["i"][2:])], rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_the_content_of_a_gru_reads_its_states_through_the_reset_gate(bias: bool) -> None:
    cr.manual_seed(0)
    layer = nn.GRU(4, 3, bias=bias).double()
    x, h = cr.randn(1, 1, 4, dtype="float64"), cr.randn(1, 1, 3, dtype="float64", requires_grad=True)
    loss = (layer(x, h)[0] ** 2).sum()
    to_u, to_h = (g.numpy() for g in cr.grad(loss, [layer.weight_hh_l0, h]))
    found = [n for n in contents(cr.explain(loss))["neurons"] if n["index"].startswith("content")]
    assert len(found) == 3 and all(map(adds_up, found))
    for n in found:
        row = 6 + int(n["index"].split("unit ")[1].split(",")[0])
        r = float(re.search(r"r = ([\d.]+)", n["words"]["z"])[1])  # type: ignore[index]
        for term in (t for t in n["terms"] if t["i"].startswith("r h ")):
            k = int(term["i"][4:])
            assert term["x"] == pytest.approx(r * h.numpy()[0, 0, k], rel=1e-3)
            assert term["dW"] == pytest.approx(to_u[row, k], rel=1e-4, abs=1e-12)
    assert to_h.any()


def test_gates_of_long_sequences_in_both_directions_add_up() -> None:
    cr.manual_seed(0)
    layer = nn.GRU(4, 3, num_layers=2, bidirectional=True)
    found = contents(cr.explain((layer(cr.randn(6, 5, 4))[0] ** 2).sum()))["neurons"]
    assert len({n["layer"] for n in found}) == 4 and all(map(adds_up, found))


def test_an_entry_of_a_head_is_a_mean_weighted_by_attention() -> None:
    q, k, v = (cr.randn(2, n, 5, 4, dtype="float64", requires_grad=True) for n in (4, 2, 2))
    out = F.scaled_dot_product_attention(q, k, v, enable_gqa=True, is_causal=True)
    found = contents(cr.explain((out**3).sum()))["neurons"]
    assert found and all(map(adds_up, found))
    assert all(n["b"] is None and n["symbols"] == {"w": "A", "x": "v", "z": "o"} for n in found)
    for n in found:
        weights = sum(t["w"] for t in n["terms"])
        assert weights == pytest.approx(1, abs=1e-5)  # five positions, all of them listed


def run_of(tmp_path: Path, steps: int) -> Path:
    run = new_run(tmp_path, "toy", {})
    model, x, _ = mlp()
    optimizer = SGD(model.parameters(), lr=0.1)
    log = MetricsLog(run.metrics)
    for step in range(steps):
        with Probe(model) as probe:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), cr.tensor([0, 1, 2, 0, 1, 2]))
            loss.backward()
            optimizer.step()
        log.append(event="layers", step=step, layers=probe.rows)
        log.append(event="step", step=step + 1, loss=float(loss), grad_norm=1.0, lr=0.1)
    log.close()
    return run.folder


def test_the_course_of_a_run_is_that_of_its_metrics(tmp_path: Path) -> None:
    found = course(run_of(tmp_path, 5))
    assert [layer["name"] for layer in found["layers"]] == ["hidden", "f", "output"]
    assert found["steps"] == [0, 1, 2, 3, 4] and found["last_step"] == 5
    assert len(found["losses"]) == 5 and found["losses"][0][1] > found["losses"][-1][1]
    grad_norm = found["statistics"]["grad_norm"]
    assert grad_norm[1] == [None] * 5 and all(v > 0 for v in grad_norm[0])


def test_a_long_run_is_thinned_and_keeps_its_end(tmp_path: Path) -> None:
    found = course(run_of(tmp_path, 901))
    assert len(found["steps"]) <= 402 and found["steps"][0] == 0 and found["steps"][-1] == 900
    assert all(len(row) == len(found["steps"]) for rows in found["statistics"].values() for row in rows)


def test_a_folder_without_a_run_or_measurements_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run's folder"):
        course(tmp_path)
    with pytest.raises(RunError, match="layer by layer"):
        course(new_run(tmp_path, "toy", {}).folder)


@pytest.mark.parametrize("name", [p.name for p in (bundle.FOLDER / "script").glob("*.js")])
def test_every_script_is_part_of_the_page(name: str) -> None:
    assert f'modules["{name}"]' in bundle.scripts()


def wrapped(source: str) -> str:
    return bundle._wrap("a.js", source)


def test_modules_become_functions_that_return_their_exports() -> None:
    text = wrapped(
        'import { a, b as c } from "./b.js";\nexport class D {}\nexport const e = 1;\nexport async function f() {}\n'
    )
    assert 'const { a, b: c } = modules["b.js"];' in text
    assert "return { D, e, f };" in text and not re.search(r"\b(import|export)\b", text)


@pytest.mark.parametrize(
    "line", ['import "./b.js";', "export default 1;", 'export { a } from "./b.js";', 'import * as b from "./b.js";']
)
def test_forms_that_the_bundle_does_not_know_are_refused(line: str) -> None:
    with pytest.raises(ChainruleError, match="does not know"):
        wrapped(line + "\n")


def test_modules_that_import_one_another_are_refused() -> None:
    sources = {"a.js": 'import { b } from "./b.js";\n', "b.js": 'import { a } from "./a.js";\n'}
    with pytest.raises(ChainruleError, match=r"a.js → b.js → a.js"):
        bundle._visit("a.js", sources, [], ())
    with pytest.raises(ChainruleError, match=r"missing: a.js → b.js"):
        bundle._visit("a.js", {"a.js": sources["a.js"]}, [], ())


def test_a_batch_without_samples_has_no_neurons_and_still_a_page() -> None:
    layer = nn.Linear(3, 2)
    explanation = cr.explain(layer(cr.zeros((0, 3))).sum(), layer.weight)
    assert contents(explanation)["neurons"] == []
    assert render(explanation)

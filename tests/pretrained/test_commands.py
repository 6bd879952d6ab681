"""The commands of pretrained networks: what they print, what they keep, and one message for what goes wrong."""

import gzip
import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from chainrule.cli import main
from chainrule.data.pictures import read_picture
from chainrule.interop import SafetensorsFile
from tests.pretrained.small_bert import write_bert
from tests.pretrained.small_face import write_small_face
from tests.pretrained.small_llama import small_model, write_gguf


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CHAINRULE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments, entered=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(entered))
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def model(tmp_path):
    return write_gguf(tmp_path / "m.gguf", small_model())


def test_llm_answers_continues_and_talks(run, model):
    code, answer, _ = run("llm", "hello", "--model", model, "--tokens", 5)
    assert code == 0 and answer.endswith("\n") and len(answer) > 1
    code, text, _ = run("llm", "--raw", "hello the", "--model", model, "--tokens", 5)
    assert code == 0 and text.startswith("hello the") and len(text) > len("hello the\n")
    assert run("llm", "hello", "--model", model, "--tokens", 5, "--compile")[:2] == (0, answer)
    code, both, hint = run("llm", "--model", model, "--tokens", 5, entered="hello\nthe\n")
    assert code == 0 and both.startswith(answer) and len(both) > len(answer) and "Ctrl-D" in hint


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--raw"], 2, "--raw continues a text"),
        (["hello", "--temperature", "-1"], 1, "temperature must be 0 or more"),
        (["hello", "--model", "none.gguf"], 1, "none.gguf: there is no such file"),
        (["hello"], 1, "`chainrule data smollm2` gets it"),
        (["hello", "--adapter", "none"], 1, "none: cannot be read"),
    ],
)
def test_llm_says_what_is_wrong_in_one_message(run, model, arguments, code, message):
    if "--adapter" in arguments:
        arguments = [*arguments, "--model", model]
    found, out, error = run("llm", *arguments)
    assert (found, out) == (code, "")
    assert message in error and "Traceback" not in error


def test_train_llm_saves_additions_that_llm_writes_with(run, model, tmp_path):
    (tmp_path / "text.txt.gz").write_bytes(gzip.compress(b"the hell, hello the hell. " * 200))
    train = ("train", "llm", "--fast", "--model", model, "--text", "text.txt.gz", "--steps", 30, "--lr", 0.02)
    code, out, error = run(*train, "--name", "one", "--json")
    assert code == 0, error
    result = json.loads(out)
    assert result["validation_loss"] < result["validation_loss_before"] - 0.2
    assert result["trained_weights"] == 2 * 8 * (24 + 24 + 24 + 8)
    saved = tmp_path / "runs" / "llm" / "one" / "lora.safetensors"
    assert str(saved.relative_to(tmp_path)) == result["adapter"] and len(SafetensorsFile(saved)) == 8
    write = ("llm", "--raw", "the ", "--model", model, "--tokens", 8, "--temperature", 0)
    (code, text, _), (_, plain, _) = run(*write, "--adapter", saved), run(*write)
    assert code == 0 and text.startswith("the ") and text != plain


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"short", "too few for windows of 17"), (b"\xff\xfe" * 50, "not a text in UTF-8")],
)
def test_a_text_that_cannot_be_trained_on_is_named(run, model, tmp_path, content, message):
    (tmp_path / "text.txt").write_bytes(content)
    code, _, error = run("train", "llm", "--fast", "--model", model, "--text", "text.txt")
    assert code == 1 and message in error


def test_data_lists_what_is_missing_and_takes_no_address_for_a_package(run):
    code, out, _ = run("data")
    assert code == 0 and "not on this machine; `chainrule data smollm2` gets it" in out
    code, _, error = run("data", "smollm2", "--address", "x")
    assert code == 1 and "comes from a package" in error


def test_embed_prints_the_cosine_of_each_pair(run, tmp_path):
    folder = tmp_path / "bert"
    folder.mkdir()
    write_bert(folder)
    (tmp_path / "more.txt").write_text("the dog\n\n the sea \n")
    code, out, _ = run("embed", "the cat", "--file", "more.txt", "--model", folder, "--json")
    result = json.loads(out)
    assert code == 0 and result["sentences"] == ["the cat", "the dog", "the sea"]
    np.testing.assert_allclose(np.diag(result["cosines"]), 1, rtol=1e-5)
    compiled = json.loads(run("embed", *result["sentences"], "--model", folder, "--json", "--compile")[1])
    np.testing.assert_allclose(compiled["vectors"], result["vectors"], rtol=1e-3, atol=1e-5)
    code, table, _ = run("embed", "the cat", "the cat runs on and on and on and on and on and on", "--model", folder)
    assert code == 0 and "1.000" in table and f"{result['cosines'][0][0]:.3f}" in table and "…" in table
    assert run("embed", "--file", "-", "--model", folder, entered="the sea")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["x"], 1, "`chainrule data minilm` gets it"),
        (["--file", "none.txt"], 1, "none.txt: cannot be read"),
        (["--json"], 2, "give sentences"),
    ],
)
def test_embed_says_what_is_wrong_in_one_message(run, arguments, code, message):
    found, out, error = run("embed", *arguments)
    assert (found, out) == (code, "") and message in error and "Traceback" not in error


def test_detect_face_draws_boxes(run, tmp_path):
    folder = write_small_face(tmp_path / "face")
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[20:40, 90:110] = 255
    Image.fromarray(picture).save(tmp_path / "one.png")
    code, out, error = run("detect-face", "one.png", "--model", folder, "--json")
    result = json.loads(out)
    assert code == 0 and result["drawn"] == "one-faces.png" and result["faces"][0]["score"] > 0.9, error
    compiled = json.loads(run("detect-face", "one.png", "--model", folder, "--json", "--compile")[1])
    assert compiled["faces"][0]["box"] == pytest.approx(result["faces"][0]["box"], abs=0.02)
    assert (read_picture(tmp_path / "one-faces.png") != picture).any()
    code, out, _ = run("detect-face", "one.png", "--model", folder, "--out", "b.jpg", "--score", "1")
    assert code == 0 and "0 faces in one.png; drawn in b.jpg" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png"], "none.png: cannot be read"),
        (["none.png", "--size", "100"], "none.png"),
        ([], "`chainrule data tiny-face` gets it"),
    ],
)
def test_detect_face_says_what_is_wrong_in_one_message(run, tmp_path, arguments, message):
    more = ["--model", write_small_face(tmp_path / "face")] if arguments else []
    code, out, error = run("detect-face", *arguments, *more)
    assert (code, out) == (1, "") and message in error and "Traceback" not in error

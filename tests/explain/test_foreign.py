"""Networks that nobody had in mind are explained whole, right, and in sentences that fit."""

from __future__ import annotations

from pathlib import Path

import pytest

import chainrule as cr
from tests.explain.foreign import NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_a_foreign_network_is_explained_whole_and_right(name: str, tmp_path: Path) -> None:
    cr.manual_seed(1)
    e = cr.explain(NETWORKS[name]())
    check = e.check()
    assert check.ok, check
    assert check.skipped == 0 and check.whole < 1e-6
    assert all(v.gradient is not None for v in e.targets)
    # What consists of several operations has its closed form, or is a derivative that the program took.
    unknown = [x.title for x in e.layers if x.agreement is None and len(x.group.values) > 2 and x.group.kind != "grad"]
    assert unknown == []
    assert all(layer.equations for layer in e.layers)
    assert e.save(tmp_path / "why.html").stat().st_size < 400_000
    text = str(e)
    assert "Why has the gradient this size?" in text
    assert "None" not in text.replace(", None", "") and "nan" not in text  # `h[:, None]` is the user's own


def test_experts_that_no_sample_chose_are_named() -> None:
    cr.manual_seed(1)
    answer = cr.explain(NETWORKS["variational"]()).answers[-1]
    assert "are zero in every entry: " in answer.text and "Experts.experts" in answer.text.replace(
        "experts.experts", ""
    )

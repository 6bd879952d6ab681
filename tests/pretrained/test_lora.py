"""LoRA: nothing changes at first, only additions are trained, and saved or merged they do the same."""

import numpy as np
import pytest

from chainrule import nn, optim
from chainrule.core.errors import OperationError
from chainrule.data import DataError
from chainrule.interop import save_safetensors
from chainrule.pretrained import Adapters
from chainrule.random import manual_seed
from tests.pretrained.small_llama import small_model, some_tokens


def loss(model):
    tokens = some_tokens(4, 12)
    scores = model(tokens[:, :-1])
    return nn.functional.cross_entropy(scores.reshape(-1, scores.shape[-1]), tokens[:, 1:].reshape(-1))


def trained(steps=15):
    model = small_model()
    manual_seed(0)
    adapters = Adapters(model, ["q_proj", "v_proj", "down_proj"], rank=3, alpha=6)
    optimizer = optim.Adam(adapters.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
    return model, adapters


def test_additions_start_at_nothing_and_only_they_are_trained():
    model, adapters = trained(steps=0)
    np.testing.assert_array_equal(model(some_tokens()).numpy(), small_model()(some_tokens()).numpy())
    own = set(map(id, adapters.parameters()))
    assert {id(p) for p in model.parameters() if p.requires_grad} == own
    assert len(own) == 2 * 3 * 2


def test_training_lowers_the_loss_and_leaves_the_weights():
    model, _ = trained()
    assert loss(model).item() < loss(small_model()).item() - 0.1
    before = small_model().state_dict()
    for name, value in model.state_dict().items():
        if "adapter" not in name:
            np.testing.assert_array_equal(value.numpy(), before[name.replace(".base.", ".")].numpy())


def test_saved_additions_and_merged_ones_do_the_same(tmp_path):
    model, adapters = trained()
    expected = model(some_tokens()).numpy()
    adapters.save(tmp_path / "lora.safetensors")
    other = small_model()
    loaded = Adapters.load(other, tmp_path / "lora.safetensors")
    np.testing.assert_array_equal(other(some_tokens()).numpy(), expected)
    loaded.merge(other)
    np.testing.assert_allclose(other(some_tokens()).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert list(other.state_dict()) == list(small_model().state_dict())


def test_what_fits_no_layer_or_is_no_file_of_additions_is_named(tmp_path):
    with pytest.raises(OperationError, match="no linear layer of Llama is called query"):
        Adapters(small_model(), ["query"])
    with pytest.raises(OperationError, match="rank of 1 or more"):
        Adapters(small_model(), ["q_proj"], rank=0)
    save_safetensors(tmp_path / "a", {"x": np.zeros(2)})
    with pytest.raises(DataError, match="not a file of LoRA additions"):
        Adapters.load(small_model(), tmp_path / "a")
    about = {"format": "chainrule-lora", "rank": "9999999999", "alpha": "1", "targets": "q_proj"}
    save_safetensors(tmp_path / "b", {"x": np.zeros(2)}, about)
    with pytest.raises(DataError, match="states the rank 9999999999"):
        Adapters.load(small_model(), tmp_path / "b")
    save_safetensors(tmp_path / "c", {"x": np.zeros(2)}, about | {"rank": "2"})
    with pytest.raises(nn.StateDictError, match="missing"):
        Adapters.load(small_model(), tmp_path / "c")

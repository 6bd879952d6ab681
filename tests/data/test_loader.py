"""Datasets and loaders: every sample once, a seeded order, and exact continuation."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.data import (
    Compose,
    DataLoader,
    Dataset,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    Subset,
    TensorDataset,
    ToFloat,
    default_collate,
    random_split,
)


class Squares(Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if i >= self.n:
            raise IndexError(i)
        return {"x": i, "y": (cr.Tensor([float(i * i)]), "name")}


def rows(loader):
    return [batch[0].tolist() for batch in loader]


def numbers(n):
    return TensorDataset(cr.Tensor(np.arange(n)))


@given(n=st.integers(1, 40), size=st.integers(1, 12), drop=st.booleans(), shuffle=st.booleans())
def test_an_epoch_hands_out_every_sample_once(n, size, drop, shuffle):
    loader = DataLoader(numbers(n), size, shuffle, drop_last=drop)
    batches = rows(loader)
    assert len(batches) == len(loader)
    seen = sorted(i for b in batches for i in b)
    assert len(seen) == (n // size * size if drop else n) and len(set(seen)) == len(seen)
    if not shuffle:
        assert seen == [i for b in batches for i in b]


def test_the_seed_fixes_the_orders_and_epochs_differ():
    def orders():
        cr.manual_seed(3)
        loader = DataLoader(numbers(50), 7, shuffle=True)
        return rows(loader), rows(loader)

    first, second = orders()
    assert first != second
    assert orders() == (first, second)


@given(stop=st.integers(0, 17), shuffle=st.booleans())
def test_a_loader_continues_in_the_middle_of_an_epoch(stop, shuffle):
    whole = DataLoader(numbers(25), 4, shuffle, generator=cr.Generator(5) if shuffle else None)
    expected = rows(whole) + rows(whole) + rows(whole)

    broken = DataLoader(numbers(25), 4, shuffle, generator=cr.Generator(5) if shuffle else None)
    seen, state = [], None
    while state is None:
        for batch in broken:
            seen.append(batch[0].tolist())
            if len(seen) > stop:
                state = json.loads(json.dumps(broken.state_dict()))
                break
    resumed = DataLoader(numbers(25), 4, shuffle, generator=cr.Generator(77) if shuffle else None)
    resumed.load_state_dict(state)
    while len(seen) < len(expected):
        seen += rows(resumed)
    assert seen == expected


def test_a_state_taken_after_an_epoch_begins_the_next_one():
    whole = DataLoader(numbers(9), 2, shuffle=True, generator=cr.Generator(1))
    rows(whole)
    state = whole.state_dict()
    resumed = DataLoader(numbers(9), 2, shuffle=True)
    resumed.load_state_dict(state)
    assert rows(resumed) == rows(whole)


def test_a_state_taken_at_the_last_batch_ends_its_epoch_first():
    whole = DataLoader(numbers(4), 2, generator=cr.Generator(1), shuffle=True)
    batches = iter(whole)
    next(batches), next(batches)
    resumed = DataLoader(numbers(4), 2, shuffle=True)
    resumed.load_state_dict(whole.state_dict())
    assert rows(resumed) == [] and len(rows(resumed)) == 2


def test_a_state_of_another_dataset_is_refused():
    state = DataLoader(numbers(5), 2, shuffle=True).state_dict()
    with pytest.raises(cr.OperationError, match="5 samples"):
        DataLoader(numbers(6), 2, shuffle=True).load_state_dict(state)
    with pytest.raises(cr.OperationError, match="shuffle"):
        DataLoader(numbers(5), 2).load_state_dict(state)


@pytest.mark.parametrize("size", [0, -1, 2.5, "3", None])
def test_batch_size_must_be_a_positive_integer(size):
    with pytest.raises(cr.OperationError, match="batch_size"):
        DataLoader(numbers(5), size)


def test_an_empty_dataset_is_refused():
    with pytest.raises(cr.OperationError, match="empty"):
        DataLoader(numbers(0))


def test_nested_samples_are_collated_by_structure():
    batch = next(iter(DataLoader(Squares(3), 3)))
    assert batch["x"].tolist() == [0, 1, 2]
    assert batch["y"][0].shape == (3, 1) and batch["y"][1] == ["name"] * 3


def test_a_plain_list_is_a_dataset_and_collate_fn_replaces_the_default():
    assert next(iter(DataLoader([1.0, 2.0], 2))).tolist() == [1.0, 2.0]
    assert next(iter(DataLoader(["a", "b"], 2, collate_fn="".join))) == "ab"


def test_samples_of_different_shapes_are_named():
    with pytest.raises(cr.ShapeError, match="different shapes"):
        default_collate([cr.Tensor([1.0]), cr.Tensor([1.0, 2.0])])
    with pytest.raises(cr.ShapeError, match="different numbers"):
        default_collate([(1, 2), (1,)])


def test_tensor_dataset_indexes_like_a_sequence():
    data = TensorDataset(cr.Tensor(np.arange(6).reshape(3, 2)), cr.Tensor(np.arange(3)))
    assert [v.tolist() for v in data[-1]] == [[4, 5], 2]
    assert len(list(data)) == 3
    with pytest.raises(IndexError, match="out of range"):
        data[3]
    with pytest.raises(cr.ShapeError):
        TensorDataset(cr.Tensor([1.0]), cr.Tensor([1.0, 2.0]))
    with pytest.raises(cr.OperationError):
        TensorDataset()


def test_subset_and_split_do_not_overlap():
    parts = random_split(numbers(11), [0.5, 0.3, 0.2], cr.Generator(0))
    assert [len(p) for p in parts] == [6, 3, 2]
    assert sorted(int(s[0].item()) for p in parts for s in p) == list(range(11))
    assert rows(DataLoader(Subset(numbers(9), [4, -1, 0]), 2)) == [[4, 8], [0]]
    for wrong in ([5, 5], [-1, 12], [0.5, 0.4]):
        with pytest.raises(cr.OperationError, match="random_split"):
            random_split(numbers(11), wrong)
    with pytest.raises(IndexError):
        Subset(numbers(3), [3])


def test_transforms_treat_a_batch_like_its_images():
    images = cr.Tensor(np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4))
    change = Compose([ToFloat(), Normalize([0.1, 0.2, 0.3], [1.0, 2.0, 4.0])])
    data = TensorDataset(images, transform=change)
    batch = data.batch(np.arange(2))[0]
    assert batch.dtype == cr.float32
    np.testing.assert_array_equal(batch.numpy()[1], data[1][0].numpy())
    reference = (images.numpy() / 255 - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array([1, 2, 4])[:, None, None]
    np.testing.assert_allclose(batch.numpy(), reference, rtol=1e-5, atol=1e-6)
    with pytest.raises(cr.OperationError, match="positive"):
        Normalize(0.5, 0.0)


def test_random_changes_treat_every_image_by_itself_and_follow_the_seed():
    x = np.arange(200 * 2 * 5 * 5, dtype=np.float32).reshape(200, 2, 5, 5)
    for change in (RandomHorizontalFlip(), RandomCrop(5, padding=2), RandomCrop(3)):
        cr.manual_seed(3)
        batch = change(cr.Tensor(x)).numpy()
        again = change(cr.Tensor(x)).numpy()
        cr.manual_seed(3)
        assert np.array_equal(change(cr.Tensor(x)).numpy(), batch) and not np.array_equal(again, batch)
        assert change(cr.Tensor(x[0])).shape == batch.shape[1:]
        kinds = {tuple((batch[i] - x[i, 0, 0, 0]).ravel().clip(-1, 60)) for i in range(200)}
        assert 1 < len(kinds) <= 200


def test_a_flip_mirrors_half_of_the_images():
    x = np.arange(400 * 6, dtype=np.float32).reshape(400, 1, 2, 3)
    flipped = RandomHorizontalFlip()(cr.Tensor(x)).numpy()
    mirrored = (flipped == x[..., ::-1]).all((1, 2, 3))
    assert ((flipped == x).all((1, 2, 3)) ^ mirrored).all() and 150 < mirrored.sum() < 250
    assert np.array_equal(RandomHorizontalFlip(0.0)(cr.Tensor(x)).numpy(), x)
    with pytest.raises(cr.OperationError, match="probability"):
        RandomHorizontalFlip(2)


def test_a_crop_is_a_window_of_the_padded_image():
    x = np.arange(1, 50 * 16 + 1, dtype=np.float32).reshape(50, 1, 4, 4)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    found = RandomCrop(4, padding=1)(cr.Tensor(x)).numpy()
    places = set()
    for i in range(50):
        at = [
            (t, s) for t in range(3) for s in range(3) if np.array_equal(padded[i, :, t : t + 4, s : s + 4], found[i])
        ]
        assert len(at) == 1
        places.add(at[0])
    assert len(places) == 9
    with pytest.raises(cr.OperationError, match="does not fit"):
        RandomCrop(8, padding=1)(cr.Tensor(x))

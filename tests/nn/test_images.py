"""Convolution, pooling, resizing and borders: derivatives, single images, memory, and what bad calls are told."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import func, nn
from chainrule.core.errors import ChainruleError, DTypeError, OperationError, ShapeError
from tests.nn.image_samples import Case, functions, x

SMALL = [case for case in functions() if all(0 < a.size <= 80 for a in case[1])]


@pytest.mark.parametrize("name", sorted({case[0] for case in functions()}))
def test_derivatives_agree_with_finite_differences(name: str) -> None:
    case = min((c for c in functions() if c[0] == name and c[1][0].size), key=lambda c: sum(a.size for a in c[1]))
    _, operands, fixed, options = case
    cr.check_grad(lambda *t: getattr(F, name)(*t, *fixed, **options), *operands, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", SMALL, ids=lambda c: f"{c[0]}-{c[2:]}".replace(" ", ""))
def test_vmap_is_a_loop(case: Case) -> None:
    name, operands, fixed, options = case
    samples = [np.stack([a, 2 * a[::-1]]) for a in operands]
    y = func.vmap(lambda *t: getattr(F, name)(*t, *fixed, **options))(*map(cr.tensor, samples))
    for i in range(2):
        alone = getattr(F, name)(*(cr.tensor(s[i]) for s in samples), *fixed, **options)
        np.testing.assert_allclose(y.numpy()[i], alone.numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(3, 4, 3), (3, 7)), (nn.Conv2d(3, 4, 3), (3, 7, 6)), (nn.Conv3d(3, 4, 2), (3, 4, 4, 4)),
        (nn.ConvTranspose2d(3, 4, 3, 2), (3, 4, 3)), (nn.MaxPool2d(2), (3, 6, 4)),
        (nn.AvgPool2d(2, padding=1), (3, 6, 4)), (nn.AdaptiveAvgPool2d((2, 3)), (3, 7, 7)),
        (nn.AdaptiveAvgPool2d(1), (3, 7, 7)), (nn.AdaptiveMaxPool2d(3), (3, 7, 7)),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (3, 5, 5)), (nn.Unfold(2), (3, 4, 5)),
    ],
    ids=lambda v: v.__class__.__name__ if isinstance(v, nn.Module) else str(v),
)  # fmt: skip
def test_a_single_image_is_a_batch_of_one_without_its_axis(layer: Any, shape: tuple[int, ...]) -> None:
    image = cr.tensor(np.asarray(x(*shape), np.float32))
    alone, batch = layer(image), layer(cr.reshape(image, (1, *shape)))
    assert batch.shape == (1, *alone.shape)
    np.testing.assert_array_equal(alone.numpy(), batch.numpy()[0])


def test_columns_of_a_large_batch_are_never_in_memory_at_once() -> None:
    images = cr.tensor(np.ones((32, 16, 64, 64), np.float32), requires_grad=True)
    weight = cr.tensor(np.ones((16, 16, 3, 3), np.float32), requires_grad=True)
    tracemalloc.start()
    F.conv2d(images, weight, padding=1).sum().backward()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Result, its cotangent and the image's; all columns together would be nine times the images.
    assert peak < 5 * images.nbytes


def test_errors_name_the_layer_its_place_the_shapes_and_the_remedy() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(16, 8, 3))
    with pytest.raises(ShapeError, match=r"(?s)2 = Conv2d\(16, 8, .*has 8 channels.*takes 16"):
        model(cr.ones((2, 3, 9, 9)))
    with pytest.raises(ShapeError, match=r"(?s)Conv2d.*does not fit into the padded input"):
        nn.Conv2d(3, 8, 5)(cr.ones((2, 3, 4, 9)))
    with pytest.raises(ShapeError, match=r"\(N, C, H, W\)"):
        nn.Conv2d(3, 8, 5)(cr.ones((3, 4)))
    with pytest.raises(DTypeError, match=r"(?s)Conv2d.*int64.*astype"):
        nn.Conv2d(3, 8, 5)(cr.ones((2, 3, 9, 9), dtype="int64"))
    with pytest.raises(DTypeError, match=r"float64 and float32"):
        nn.Conv2d(3, 8, 5)(cr.ones((2, 3, 9, 9), dtype="float64"))


BAD: list[tuple[Any, type[ChainruleError], str]] = [
    (lambda: nn.Conv2d(3, 8, 3, groups=2), OperationError, "multiples of groups=2"),
    (lambda: nn.Conv2d(3, 8, (3, 3, 3)), OperationError, "kernel_size"),
    (lambda: nn.Conv2d(3, 8, 0), OperationError, "at least 1"),
    (lambda: nn.Conv2d(-3, 8, 3), ShapeError, "in_channels"),
    (lambda: nn.Conv2d(3, 8, 3, stride=0), OperationError, "stride"),
    (lambda: nn.Conv2d(3, 8, 3, padding=-1), OperationError, "padding"),
    (lambda: nn.Conv2d(3, 8, 3, padding="full"), OperationError, "'same'"),
    (lambda: nn.Conv2d(3, 8, 3, stride=2, padding="same"), OperationError, "stride 1"),
    (lambda: nn.Conv2d(3, 8, 3, padding_mode="mirror"), OperationError, "reflect"),
    (lambda: nn.Conv2d(3, 8, 2.5), DTypeError, "integers"),
    (lambda: nn.ConvTranspose2d(3, 8, 3, output_padding=1)(cr.ones((1, 3, 4, 4))), OperationError, "output_padding"),
    (lambda: nn.ConvTranspose2d(3, 8, 3, padding=4)(cr.ones((1, 3, 2, 2))), ShapeError, "less padding"),
    (lambda: F.conv2d(cr.ones((1, 3, 4, 4)), cr.ones((8, 3, 3, 3)), cr.ones((7,))), ShapeError, "bias"),
    (lambda: F.max_pool2d(cr.ones((1, 3, 4, 4)), 2, padding=2), OperationError, "half"),
    (lambda: F.max_pool2d(cr.ones((1, 3, 4, 4)), 5), ShapeError, "smaller window"),
    (lambda: F.avg_pool2d(cr.ones((1, 3, 4, 4)), 2, divisor_override=0), OperationError, "divisor_override"),
    (lambda: F.avg_pool2d(cr.ones((1, 3, 4, 4), dtype="int32"), 2), DTypeError, "floating"),
    (lambda: F.adaptive_avg_pool2d(cr.ones((1, 3, 4, 4)), (2, 2, 2)), OperationError, "output_size"),
    (lambda: F.interpolate(cr.ones((1, 3, 4, 4))), OperationError, "size or scale_factor"),
    (lambda: F.interpolate(cr.ones((1, 3, 4, 4)), 3, mode="linear"), ShapeError, "spatial axes"),
    (lambda: F.interpolate(cr.ones((1, 3, 4, 4)), 3, align_corners=True), OperationError, "align_corners"),
    (lambda: F.interpolate(cr.ones((1, 3, 4, 4)), scale_factor=0.1), ShapeError, "no pixels left"),
    (lambda: F.pad(cr.ones((1, 3, 4)), (1,)), OperationError, "two widths"),
    (lambda: F.pad(cr.ones((1, 3, 4)), (4, 0), mode="reflect"), ShapeError, "at most 3"),
    (lambda: F.pad(cr.ones((1, 3, 4)), (5, 0), mode="circular"), ShapeError, "at most 4"),
    (lambda: F.pad(cr.ones((1, 3, 4)), (-3, -2)), ShapeError, "cannot take"),
    (lambda: F.pixel_shuffle(cr.ones((1, 3, 4, 4)), 2), ShapeError, "upscale_factor=2"),
    (lambda: F.fold(cr.ones((1, 7, 4)), (3, 3), 2), ShapeError, "fold"),
    (lambda: F.unfold(cr.ones((1, 2, 4, 4)), 5), ShapeError, "does not fit"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "match"), BAD, ids=[match for *_, match in BAD])
def test_bad_calls_are_told_what_to_do(call: Any, error: type[ChainruleError], match: str) -> None:
    with pytest.raises(error, match=match):
        call()

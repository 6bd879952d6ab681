"""Typical calls of every function in nn.functional, for finite differences here and PyTorch in tests/peers.

A function exported without a call here fails `test_every_function_has_a_sample` (test_functional.py).
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F

D = np.float64


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Normal numbers, the same for the same arguments."""
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def x(*shape: int, seed: int = 0, scale: float = 2.0) -> np.ndarray:
    return noise(shape, seed) * scale


def probabilities(*shape: int, seed: int = 0) -> np.ndarray:
    return 1 / (1 + np.exp(-noise(shape, seed)))


def classes(count: int, *shape: int, seed: int = 0, ignored: int | None = None) -> np.ndarray:
    drawn = np.random.default_rng([seed, *shape]).integers(0, count, shape)
    if ignored is not None:
        drawn = np.where(np.arange(drawn.size).reshape(shape) % 3 == 1, ignored, drawn)
    return drawn


def signs(*shape: int, seed: int = 0) -> np.ndarray:
    return np.where(noise(shape, seed) > 0, 1.0, -1.0)


class Case(NamedTuple):
    """`name(*inputs, *fixed, **options)`: differentiated by the inputs, arrays elsewhere are constants."""

    name: str
    inputs: tuple[np.ndarray, ...]
    fixed: tuple[Any, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012


def pointwise() -> list[Case]:
    names = (
        "relu relu6 leaky_relu elu selu celu gelu silu mish tanh sigmoid logsigmoid softplus softsign tanhshrink "
        "hardtanh hardsigmoid hardswish hardshrink softshrink rrelu"
    )
    cases = [Case(name, (x(3, 7, seed=i, scale=3.0),)) for i, name in enumerate(names.split())]
    return [
        *cases,
        Case("leaky_relu", (x(5),), (), {"negative_slope": 0.3}),
        Case("elu", (x(5),), (), {"alpha": 1.7}),
        Case("elu", (x(5, scale=500.0),)),
        Case("celu", (x(5),), (), {"alpha": 0.6}),
        Case("gelu", (x(4, 5),), (), {"approximate": "tanh"}),
        Case("softplus", (x(9, scale=20.0),), (), {"beta": 1.5, "threshold": 10.0}),
        Case("logsigmoid", (x(9, scale=300.0),)),
        Case("hardtanh", (x(9),), (), {"min_val": -0.3, "max_val": 1.2}),
        Case("hardshrink", (x(9),), (), {"lambd": 1.1}),
        Case("softshrink", (x(9),), (), {"lambd": 1.1}),
        Case("threshold", (x(9),), (0.4, -3.0)),
        Case("rrelu", (x(9),), (0.2, 0.6)),
        Case("prelu", (x(3, 4, 5), x(4, seed=1))),
        Case("prelu", (x(3, 4), x(1, seed=1))),
        Case("glu", (x(3, 6),)),
        Case("glu", (x(4, 6),), (), {"dim": 0}),
    ]


def rows() -> list[Case]:
    cases = [
        Case(name, (x(3, 4, 5, scale=scale),), (), {"dim": dim})
        for name in ("softmax", "log_softmax", "softmin")
        for dim, scale in ((-1, 1.0), (0, 100.0), (1, 3.0))
    ]
    return [
        *cases,
        Case("normalize", (x(3, 4),)),
        Case("normalize", (x(3, 4, 2),), (), {"p": 1.0, "dim": -1}),
        Case("normalize", (x(3, 4),), (), {"p": 3.0, "dim": 0}),
        Case("cosine_similarity", (x(3, 4), x(3, 4, seed=1))),
        Case("cosine_similarity", (x(3, 4), x(1, 4, seed=1)), (), {"dim": 0, "eps": 1e-3}),
        Case("pairwise_distance", (x(3, 4), x(3, 4, seed=1))),
        Case("pairwise_distance", (x(3, 4), x(4, seed=1)), (), {"p": 1.0, "keepdim": True}),
        Case("pairwise_distance", (x(3, 4), x(3, 4, seed=1)), (), {"p": 3.0}),
        Case("linear", (x(5, 3), x(4, 3, seed=1), x(4, seed=2))),
        Case("linear", (x(2, 5, 3), x(4, 3, seed=1), x(4, seed=2))),
        Case("linear", (x(3), x(4, 3, seed=1))),
        Case("linear", (x(5, 3), x(3, seed=1))),
        Case("linear", (x(0, 3), x(4, 3, seed=1), x(4, seed=2))),
        Case("bilinear", (x(5, 3), x(5, 2, seed=1), x(4, 3, 2, seed=2), x(4, seed=3))),
        Case("bilinear", (x(2, 5, 3), x(2, 5, 2, seed=1), x(4, 3, 2, seed=2))),
    ]


def normalisations() -> list[Case]:
    weight, bias = x(4, seed=1), x(4, seed=2)
    mean, var = x(4, seed=3), np.abs(x(4, seed=4)) + 0.1
    return [
        Case("layer_norm", (x(3, 4),), ((4,),)),
        Case("layer_norm", (x(2, 3, 4), x(3, 4, seed=1), x(3, 4, seed=2)), (), {"normalized_shape": (3, 4)}),
        Case("rms_norm", (x(3, 4),), ((4,),)),
        Case("rms_norm", (x(3, 4), weight), (), {"normalized_shape": (4,), "eps": 1e-3}),
        Case("group_norm", (x(3, 4, 5),), (2,)),
        Case("group_norm", (x(3, 4, 2, 3), weight, bias), (), {"num_groups": 2, "eps": 1e-3}),
        Case("batch_norm", (x(6, 4),), (None, None, None, None, True)),
        Case("batch_norm", (x(3, 4, 5),), (None, None, weight, bias, True)),
        Case("batch_norm", (x(3, 4, 5),), (mean, var, weight, bias, True, 0.3, 1e-3)),
        Case("batch_norm", (x(3, 4, 2, 2),), (mean, var, weight, bias, False)),
        Case("instance_norm", (x(3, 4, 5),)),
        Case("instance_norm", (x(3, 4, 2, 3),), (mean, var, weight, bias)),
        Case("instance_norm", (x(3, 4, 5),), (mean, var, weight, bias, False)),
        Case("dropout", (x(3, 4),), (0.4, False)),
        Case("dropout", (x(3, 4),), (1.0, True)),
        Case("dropout", (x(3, 4),), (0.0, True)),
        Case("alpha_dropout", (x(3, 4),), (0.4, False)),
        Case("dropout1d", (x(3, 4, 5),), (0.4, False)),
        Case("dropout2d", (x(3, 4, 5, 2),), (0.4, False)),
        Case("dropout3d", (x(3, 4, 5, 2, 2),), (0.4, False)),
    ]


def classification() -> list[Case]:
    t, weight = classes(4, 6), np.abs(x(4, seed=9)) + 0.1
    share = probabilities(6, 4, seed=3)
    images, pixels = x(2, 4, 3, 2), classes(4, 2, 3, 2)
    cases = []
    for reduction in ("mean", "sum", "none"):
        r = {"reduction": reduction}
        for name in ("cross_entropy", "nll_loss"):
            ignoring = classes(4, 6, ignored=-100)
            cases += [
                Case(name, (x(6, 4),), (t,), r),
                Case(name, (x(6, 4, scale=300.0),), (t,), r),
                Case(name, (x(6, 4),), (t, weight), r),
                Case(name, (x(6, 4),), (ignoring,), r),
                Case(name, (x(6, 4),), (ignoring, weight), r),
                Case(name, (x(6, 4),), (t,), {"ignore_index": 2, **r}),
                Case(name, (images,), (pixels,), r),
                Case(name, (images,), (classes(4, 2, 3, 2, ignored=-100), weight), r),
                Case(name, (x(4),), (np.array(2),), r),
                Case(name, (x(0, 4),), (classes(4, 0),), r),
            ]
        for smoothing in (0.1, 1.0):
            s = {"label_smoothing": smoothing, **r}
            cases += [
                Case("cross_entropy", (x(6, 4),), (t,), s),
                Case("cross_entropy", (x(6, 4),), (classes(4, 6, ignored=-100), weight), s),
                Case("cross_entropy", (images,), (classes(4, 2, 3, 2, ignored=1), weight), {"ignore_index": 1, **s}),
                Case("cross_entropy", (x(6, 4),), (classes(4, 6, ignored=-100),), s),
                Case("cross_entropy", (x(6, 4), share), (weight,), s),
            ]
        cases += [
            Case("cross_entropy", (x(6, 4), share), (), r),
            Case("cross_entropy", (images, probabilities(2, 4, 3, 2)), (weight,), r),
            Case("cross_entropy", (x(4), probabilities(4)), (), r),
            Case("binary_cross_entropy", (probabilities(3, 4), probabilities(3, 4, seed=1)), (), r),
            Case("binary_cross_entropy", (probabilities(3, 4),), (signs(3, 4) > 0.0, np.abs(x(4))), r),
            Case("binary_cross_entropy_with_logits", (x(3, 4), probabilities(3, 4, seed=1)), (), r),
            Case("binary_cross_entropy_with_logits", (x(3, 4, scale=300.0),), (probabilities(3, 4, seed=1),), r),
            Case(
                "binary_cross_entropy_with_logits", (x(3, 4),), (probabilities(3, 4), np.abs(x(4))),
                {"pos_weight": np.abs(x(4, seed=2)), **r},
            ),
            Case("kl_div", (x(3, 4), probabilities(3, 4)), (), r),
            Case("kl_div", (x(3, 4), x(3, 4, seed=1)), (), {"log_target": True, **r}),
        ]  # fmt: skip
    cases.append(Case("kl_div", (x(3, 4), probabilities(3, 4)), (), {"reduction": "batchmean"}))
    return cases


def numbers() -> list[Case]:
    cases = []
    for reduction in ("mean", "sum", "none"):
        r = {"reduction": reduction}
        pair, weight = (x(3, 4), x(3, 4, seed=1)), np.abs(x(3, 4, seed=2))
        cases += [Case(name, pair, (), r) for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")]
        cases += [Case(name, pair, (), {"weight": weight, **r}) for name in ("mse_loss", "l1_loss", "huber_loss")]
        cases += [
            Case("mse_loss", (x(0, 4), x(0, 4)), (), r),
            Case("smooth_l1_loss", pair, (), {"beta": 2.5, **r}),
            Case("smooth_l1_loss", pair, (), {"beta": 0.0, **r}),
            Case("huber_loss", pair, (), {"delta": 2.5, **r}),
            Case("poisson_nll_loss", pair, (), r),
            Case("poisson_nll_loss", (x(3, 4), np.abs(x(3, 4)) + 1.5), (), {"full": True, **r}),
            Case("poisson_nll_loss", (probabilities(3, 4), np.abs(x(3, 4))), (), {"log_input": False, **r}),
            Case("gaussian_nll_loss", (*pair, probabilities(3, 4)), (), r),
            Case("gaussian_nll_loss", (*pair, probabilities(3, 1)), (), {"full": True, **r}),
            Case("gaussian_nll_loss", (*pair, probabilities(3)), (), {"eps": 0.5, **r}),
            Case("gaussian_nll_loss", pair, (0.7,), r),
        ]
    return cases


def margins() -> list[Case]:
    cases = []
    three = (x(5, 3), x(5, 3, seed=1), x(5, 3, seed=2))
    labels = np.array([[2, 0, -1, 1], [3, -1, 0, 0], [-1, 0, 1, 2], [0, 1, 2, 3]])
    weight = np.abs(x(4, seed=8))
    for reduction in ("mean", "sum", "none"):
        r = {"reduction": reduction}
        cases += [
            Case("cosine_embedding_loss", three[:2], (signs(5),), r),
            Case("cosine_embedding_loss", (x(3), x(3, seed=1)), (np.array(-1.0),), {"margin": -0.9, **r}),
            Case("hinge_embedding_loss", (x(5, 3),), (signs(5, 3),), r),
            Case("hinge_embedding_loss", (x(5, 3),), (signs(5, 3),), {"margin": 2.0, **r}),
            Case("margin_ranking_loss", (x(5), x(5, seed=1)), (signs(5),), {"margin": 0.5, **r}),
            Case("triplet_margin_loss", three, (), r),
            Case("triplet_margin_loss", three, (), {"margin": 3.0, "p": 1.0, "swap": True, **r}),
            Case("triplet_margin_with_distance_loss", three, (), r),
            Case("triplet_margin_with_distance_loss", three, (), {"margin": 2.0, "swap": True, **r}),
            Case("soft_margin_loss", (x(5, 3),), (signs(5, 3),), r),
            Case("multilabel_soft_margin_loss", (x(5, 4),), (probabilities(5, 4),), r),
            Case("multilabel_soft_margin_loss", (x(5, 4),), (probabilities(5, 4), weight), r),
            Case("multi_margin_loss", (x(5, 4),), (classes(4, 5),), r),
            Case("multi_margin_loss", (x(5, 4),), (classes(4, 5), 2, 1.5, weight), r),
            Case("multi_margin_loss", (x(4),), (np.array(1),), r),
            Case("multilabel_margin_loss", (x(4, 4),), (labels,), r),
            Case("multilabel_margin_loss", (x(4),), (labels[0],), r),
        ]
    return cases


def lookups() -> list[Case]:
    indices = np.array([[1, 0, 2], [2, 2, 4]])
    return [
        Case("embedding", (x(5, 3),), (), {"input": indices}),
        Case("embedding", (x(5, 3),), (), {"input": indices, "padding_idx": 2}),
        Case("embedding", (x(5, 3),), (), {"input": indices, "padding_idx": -1, "scale_grad_by_freq": True}),
        Case("embedding", (x(5, 3),), (), {"input": np.zeros((0, 2), np.int64)}),
        Case("one_hot", (), (indices,)),
        Case("one_hot", (), (indices, 7)),
    ]


def attention() -> list[Case]:
    q, k, v = x(2, 3, 4, 5), x(2, 3, 6, 5, seed=1), x(2, 3, 6, 5, seed=2)
    name = "scaled_dot_product_attention"
    return [
        Case(name, (q, k, v)),
        Case(name, (q, k, v), (), {"is_causal": True, "scale": 0.7}),
        Case(name, (q, k, v), (), {"attn_mask": x(4, 6, seed=3)}),
    ]


CASES = [*pointwise(), *rows(), *normalisations(), *classification(), *numbers(), *margins(), *lookups(), *attention()]


def call(case: Case, tensors: tuple[Any, ...], functions: Any = F, convert: Any = cr.tensor) -> Any:
    """The call with `tensors` for its inputs, in this library or another with the same signatures."""

    def constant(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return convert(value.astype(D) if value.dtype == bool else value)
        return value

    function = getattr(functions, case.name)
    options = {k: constant(v) for k, v in case.options.items()}
    names = list(inspect.signature(getattr(F, case.name)).parameters)
    if not options.keys() & set(names[: len(tensors)]):
        positional = (*tensors, *(constant(v) for v in case.fixed))
        return function(*positional, **options)
    # An option comes before the inputs in the signature: pass them by name.
    remaining = [n for n in names if n not in options]
    return function(**dict(zip(remaining, tensors, strict=False)), **options)


def label(case: Case) -> str:
    shapes = "x".join(str(a.shape) for a in case.inputs).replace(" ", "")
    options = ",".join(f"{k}={v}" for k, v in case.options.items() if not isinstance(v, np.ndarray))
    return f"{case.name}-{shapes}-{options}"


RANDOM = {"gumbel_softmax"}  # nothing to compare call by call: test_random.py

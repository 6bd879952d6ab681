"""Embedding: a trained vector for each integer."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import IndexingError, OperationError, ShapeError, located
from ..core.tensor import Tensor
from . import functional as F
from . import init
from .linear import size_of
from .module import Module, in_module
from .parameter import Parameter, empty, parameter_dtype


class Embedding(Module):
    """The rows of a trained matrix that the input names.

    Args:
        num_embeddings: number of rows V.
        embedding_dim: length D of each.
        padding_idx: this row starts at 0 and gets no gradient.
        max_norm, norm_type: scale rows that are read down to at most this norm.
        scale_grad_by_freq: divide a row's gradient by its occurrences in the batch.
        sparse: only False; gradients are dense.

    Shapes: input any, integers; output (*input.shape, D); weight (V, D), standard normal.

    Raises:
        IndexingError: an index is out of range.
    """

    weight: Parameter

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, max_norm: float | None = None,
        norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False, _weight: Any = None,
        _freeze: bool = False, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        self.num_embeddings = size_of("num_embeddings", num_embeddings)
        self.embedding_dim = size_of("embedding_dim", embedding_dim)
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise IndexingError(
                    located(f"Embedding: padding_idx {padding_idx} is out of range for {num_embeddings} rows")
                )
            padding_idx %= num_embeddings
        if sparse:
            raise OperationError(located("Embedding: gradients are dense here; leave sparse=False"))
        self.padding_idx, self.max_norm, self.norm_type = padding_idx, max_norm, norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        if _weight is None:
            self.weight = empty((num_embeddings, embedding_dim), parameter_dtype(device, dtype))
            self.weight.requires_grad_(not _freeze)
            self.reset_parameters()
        else:
            self.weight = Parameter(_weight, not _freeze)
            if self.weight.shape != (num_embeddings, embedding_dim):
                raise ShapeError(
                    located(
                        f"Embedding: a weight of shape {self.weight.shape} for {num_embeddings} rows of {embedding_dim}"
                    )
                )

    @classmethod
    def from_pretrained(
        cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None, max_norm: float | None = None,
        norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
    ) -> Embedding:  # fmt: skip
        """An embedding with given rows, by default not trained."""
        rows, width = embeddings.shape
        return cls(rows, width, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, embeddings, freeze)

    def reset_parameters(self) -> None:
        """Standard normal rows, the padding row 0."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            values = np.array(self.weight.numpy())
            values[self.padding_idx] = 0
            self.weight.assign(values)

    def forward(self, input: Tensor) -> Tensor:
        try:
            return F.embedding(
                input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq
            )
        except IndexingError as error:
            raise in_module(self, error) from None

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"

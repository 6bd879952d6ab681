"""Lessons on backpropagation that run on the reader's machine (`chainrule learn`).

`guide` shows the pages of `docs/guide` with what their code prints, and `exercises` checks the
answers to their questions; `cost` measures what a gradient costs.
"""

from __future__ import annotations

LESSONS = {
    "network": "what a network computes",
    "loss": "the loss, and the core idea",
    "graph": "the computational graph",
    "chain-rule": "the chain rule, and what it costs",
    "neuron": "one neuron by hand",
    "layer": "a layer: δ xᵀ and Wᵀ δ",
    "deep": "a deep network",
    "sums": "accumulation and shared weights",
    "optimisers": "optimisers and learning rates",
    "gradients": "what initialisation, activations, normalisation and residual connections do to gradients",
    "architectures": "convolutional and recurrent networks, attention",
    "debugging": "when gradients go wrong",
    "cost": "what a gradient costs by backpropagation, by forward mode and by finite differences, measured",
}

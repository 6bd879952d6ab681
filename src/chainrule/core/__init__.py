"""The engine: tensors, nodes, primitives, the dispatch point and reverse-mode differentiation."""

"""The functions of the Array API standard 2024.12 on tensors, composed of primitives."""

__all__: list[str] = []

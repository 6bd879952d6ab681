"""Networks: modules, layers, losses and initialisers, under PyTorch's names."""

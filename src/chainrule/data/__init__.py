"""Datasets, loaders with an order that can be resumed, and the data sets the package brings along."""

from ..core.errors import DataError
from .dataset import Dataset, Subset, TensorDataset, default_collate, random_split
from .fashion_mnist import FashionMNIST
from .idx import read_idx
from .loader import DataLoader
from .transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToFloat

__all__ = [
    "Compose",
    "DataError",
    "DataLoader",
    "Dataset",
    "FashionMNIST",
    "Normalize",
    "RandomCrop",
    "RandomHorizontalFlip",
    "Subset",
    "TensorDataset",
    "ToFloat",
    "default_collate",
    "random_split",
    "read_idx",
]

"""Datasets, loaders with an order that can be resumed, and the data sets the package brings along."""

from ..core.errors import DataError
from .dataset import Dataset, Subset, TensorDataset, default_collate, random_split
from .fashion_mnist import FashionMNIST
from .idx import read_idx
from .loader import DataLoader
from .text import Characters, Windows, read_text
from .time_series import read_ts
from .transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToFloat
from .vowels import JapaneseVowels

__all__ = [
    "Characters",
    "Compose",
    "DataError",
    "DataLoader",
    "Dataset",
    "FashionMNIST",
    "JapaneseVowels",
    "Normalize",
    "RandomCrop",
    "RandomHorizontalFlip",
    "Subset",
    "TensorDataset",
    "ToFloat",
    "Windows",
    "default_collate",
    "random_split",
    "read_idx",
    "read_text",
    "read_ts",
]

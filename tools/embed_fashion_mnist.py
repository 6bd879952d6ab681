"""Make the subset of Fashion-MNIST that ships inside the package.

    python tools/embed_fashion_mnist.py FOLDER_WITH_THE_FULL_SET

It keeps the first 1,000 training and the first 200 test images of every class, in the order
of the full set, and writes them as gzip-compressed IDX files under the original names. The
result depends on nothing but the full set, so running it again changes no byte.
"""

from __future__ import annotations

import argparse
import gzip
import struct
from pathlib import Path

import numpy as np

from chainrule.data.idx import read_idx

TARGET = Path(__file__).parent.parent / "src/chainrule/data/embedded/fashion-mnist"
PER_CLASS = {"train": 1000, "t10k": 200}


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Sorted positions of the first `count` items of every class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(10)]))


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write unsigned bytes as IDX; no file name and no time stamp in the gzip header."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=9, mtime=0))
    print(f"{path}: {array.shape}, {path.stat().st_size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the four IDX files of the full set")
    folder = parser.parse_args().folder
    TARGET.mkdir(parents=True, exist_ok=True)
    for part, count in PER_CLASS.items():
        images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
        kept = first_of_each_class(labels, count)
        write_idx(TARGET / f"{part}-images-idx3-ubyte.gz", images[kept])
        write_idx(TARGET / f"{part}-labels-idx1-ubyte.gz", labels[kept])


if __name__ == "__main__":
    main()

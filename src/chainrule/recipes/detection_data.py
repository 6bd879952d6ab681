"""What the detector is trained and measured on: scenes with garments, or aerial photographs of trees."""

from __future__ import annotations

from typing import Any

from ..data import FashionMNIST
from .scenes import Scenes
from .tree_crowns import Crops, TreeCrowns


def load(settings: Any) -> tuple[Any, dict[str, Any], tuple[str, ...], str]:
    """Training scenes, held-out scenes by name, the names of the classes, and where all came from."""
    if settings.scenes == "tree-crowns":
        crowns = TreeCrowns(settings.data)
        return Crops(crowns.train, settings.count), crowns.held_out, ("tree",), crowns.source
    garments, test = (FashionMNIST(train, settings.data) for train in (True, False))
    scenes = Scenes(garments, True, settings.count)
    held_out = Scenes(test, False, settings.held_out, seed=1)
    source = f"{len(garments):,} and {len(test):,} garments ({garments.source}) on {scenes.source}; held out: "
    return scenes, {"held-out scenes": held_out}, FashionMNIST.classes, source + held_out.source

"""Lets torchvision be imported where it was built for CUDA and torch was not, as on most test machines.

There its compiled part cannot be loaded, nobody declares its operators, and its Python part fails when it describes two
of them. Declaring those two is enough for the import. Where the compiled part loads, nothing is changed.
"""

import importlib.machinery
import sys
from pathlib import Path

kept = []  # a torch Library takes its declarations with it when it goes


class DeclareOperators:
    """Runs once, just before the first import of torchvision, so that programs without it load no torch."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            found = importlib.machinery.PathFinder.find_spec(name, path)
            if found is not None and not loads(Path(found.origin).parent):
                declare()


def loads(torchvision):
    import torch

    try:
        for compiled in (*torchvision.glob("_C*.so"), *torchvision.glob("_C*.pyd")):
            torch.ops.load_library(compiled)
    except OSError:
        return False
    return True


def declare():
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    kept.append(library)


sys.meta_path.insert(0, DeclareOperators())

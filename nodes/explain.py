"""Every failure leaves a node as a sentence that names the node: what was wrong, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..joycaption.errors import JoyCaptionError

__all__ = ["NodeError", "failing_as", "of_input"]


class NodeError(Exception):
    """What the page shows of a failed node. Its cause is in ComfyUI's log."""

    __module__ = "joycaption"  # the page shows it, and the real one is the pack's path


@contextmanager
def failing_as(node: str) -> Iterator[None]:
    """Raise what the library raises on purpose, and what a disk or a missing library provokes, as a `NodeError`."""
    try:
        yield
    except JoyCaptionError as error:
        raise NodeError(f"{node}: {error}") from error
    except OSError as error:
        raise NodeError(f"{node}: {error.filename or 'a file'} cannot be used: {error.strerror or error}.") from error
    except ImportError as error:
        raise NodeError(
            f"{node}: the library {error.name or 'that it needs'} is missing or broken ({error}). Install it with"
            " ComfyUI's own Python: python -m pip install -r requirements.txt, in this pack's folder."
        ) from error


@contextmanager
def of_input(name: str) -> Iterator[None]:
    """Say which input a wrong value came from."""
    try:
        yield
    except JoyCaptionError as error:
        raise type(error)(f"input {name}: {error}") from error

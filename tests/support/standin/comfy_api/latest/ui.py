"""What a node shows on itself after a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PreviewText:
    value: str

    def as_dict(self) -> dict[str, tuple[str]]:
        return {"text": (self.value,)}

"""Declarations of nodes, kept as plain data. An option that is not known here is a TypeError, as it is in ComfyUI."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import Any


class ControlAfterGenerate(Enum):
    fixed = "fixed"
    increment = "increment"
    randomize = "randomize"


@dataclass
class Input:
    id: str
    io_type: str
    _: KW_ONLY
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None


@dataclass(kw_only=True)
class WidgetInput(Input):
    default: Any = None
    advanced: bool = False


@dataclass(kw_only=True)
class StringInput(WidgetInput):
    multiline: bool = False
    placeholder: str | None = None


@dataclass(kw_only=True)
class IntInput(WidgetInput):
    min: int
    max: int
    control_after_generate: ControlAfterGenerate | None = None


@dataclass(kw_only=True)
class FloatInput(WidgetInput):
    min: float
    max: float
    step: float


@dataclass(kw_only=True)
class ComboInput(WidgetInput):
    options: list[str]


@dataclass
class Output:
    id: str
    io_type: str
    _: KW_ONLY
    display_name: str | None = None
    tooltip: str | None = None
    is_output_list: bool = False


@dataclass(frozen=True)
class Custom:
    """A type of sockets."""

    io_type: str
    declaration: type[Input] = Input

    def Input(self, id: str, **said: Any) -> Input:
        return self.declaration(id, self.io_type, **said)

    def Output(self, id: str, **said: Any) -> Output:
        return Output(id, self.io_type, **said)


Image = Custom("IMAGE")
Boolean = Custom("BOOLEAN", WidgetInput)
String = Custom("STRING", StringInput)
Int = Custom("INT", IntInput)
Float = Custom("FLOAT", FloatInput)
Combo = Custom("COMBO", ComboInput)


@dataclass(kw_only=True)
class Schema:
    node_id: str
    display_name: str
    category: str
    description: str
    inputs: list[Input]
    outputs: list[Output]
    search_aliases: list[str] = field(default_factory=list)
    is_input_list: bool = False
    is_output_node: bool = False


class ComfyNode:
    """Nodes have class methods only."""


class NodeOutput:
    """
    Attributes:
        result: a value for each output.
        ui: what the page is told.
    """

    def __init__(self, *result: Any, ui: Any = None) -> None:
        self.result = result
        self.ui: dict[str, Any] = ui.as_dict() if hasattr(ui, "as_dict") else ui or {}

"""Load JoyCaption: which model, in which precision."""

from __future__ import annotations

from comfy_api.latest import io

from ..joycaption.errors import JoyCaptionError
from ..joycaption.model.precision import PRECISIONS
from .explain import failing_as, of_input
from .model import check_choice, choices, files_state, shared_model
from .sockets import ModelSocket

__all__ = ["JoyCaptionLoad"]

_NAME = "Load JoyCaption"


class JoyCaptionLoad(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JoyCaptionLoad",
            display_name=_NAME,
            category="JoyCaption",
            description="Chooses a captioning model. Its weights are loaded with the first caption, and give way when"
            " other models need the memory.",
            search_aliases=["joy caption", "captioner", "image to text", "vlm loader", "llava", "beta one"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=choices(),
                    default="demo",
                    tooltip="demo: built in, knows drawn shapes only. beta-one: JoyCaption Beta One, 17 GB."
                    " Also what lies in models/joycaption, LLavacheckpoints, LLM, VLM and the Hugging Face cache.",
                ),
                io.Combo.Input(
                    "precision",
                    options=["auto", *PRECISIONS],
                    default="auto",
                    tooltip="auto: bf16 where the GPU has it, else fp16; fp32 for a small model on a CPU.",
                ),
            ],
            outputs=[ModelSocket.Output("model", display_name="model")],
        )

    @classmethod
    def validate_inputs(cls, model: str | None) -> bool | str:
        try:
            if model is not None:  # not from another node, whose value is not known yet
                check_choice(model)
        except JoyCaptionError as error:
            return str(error)
        except ImportError:
            pass  # the caption node will say it, once it runs
        return True

    @classmethod
    def fingerprint_inputs(cls, model: str | None, precision: str) -> object:
        try:
            return model and files_state(model)
        except (JoyCaptionError, ImportError):
            return None

    @classmethod
    def execute(cls, model: str, precision: str) -> io.NodeOutput:
        with failing_as(_NAME), of_input("model"):
            return io.NodeOutput(shared_model(model, precision))

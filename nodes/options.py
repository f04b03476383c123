"""JoyCaption Options: what to write, in the words that the model was trained on."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..joycaption.prompts import BETA_ONE
from .explain import failing_as
from .sockets import Options, OptionsSocket

__all__ = ["JoyCaptionOptions"]


class JoyCaptionOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JoyCaptionOptions",
            display_name="JoyCaption Options",
            category="JoyCaption",
            description="What to write: the caption types and wishes that the model was trained on.",
            search_aliases=["joy caption", "caption type", "extra options", "prompt"],
            inputs=[
                io.Combo.Input("type", options=[kind.label for kind in BETA_ONE.types.values()]),
                io.Combo.Input(
                    "length",
                    options=["any", *BETA_ONE.length_words, *map(str, BETA_ONE.word_counts)],
                    tooltip="In words; a number is the most that are wanted.",
                ),
                io.String.Input(
                    "tone",
                    default="",
                    placeholder="the type's own",
                    tooltip="formal and casual were trained, with Descriptive. Any other word is added as a wish.",
                ),
                io.String.Input(
                    "name", default="", placeholder="nobody's", tooltip="What to call a person in the picture."
                ),
                *(
                    io.Boolean.Input(id, display_name=BETA_ONE.extra_labels[id], default=False, tooltip=sentence)
                    for id, sentence in BETA_ONE.extras.items()
                ),
            ],
            outputs=[
                OptionsSocket.Output("options", display_name="options"),
                io.String.Output("prompt", display_name="prompt", tooltip="Exactly what the model is asked."),
            ],
            is_output_node=True,  # or the page would lose the prompt that it shows when it is loaded again
        )

    @classmethod
    def execute(cls, type: str, length: str, tone: str, name: str, **extras: bool) -> io.NodeOutput:
        chosen = tuple(id for id, wanted in extras.items() if wanted)
        options = Options(type, length, tone.strip() or None, name.strip() or None, chosen)
        with failing_as("JoyCaption Options"):
            prompt = options.prompt()
        return io.NodeOutput(options, prompt, ui=ui.PreviewText(prompt))

"""JoyCaption: captions for the pictures of a graph, all of them in one run of the engine."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io

from ..joycaption.errors import ModelError
from ..joycaption.types import Caption, Request, derive_seed
from . import host
from .explain import failing_as, of_input
from .model import Model
from .sockets import ModelSocket, Options, along, check_lists, pictures_of
from .writing import sampling_of, system_of, writing_inputs

__all__ = ["JoyCaptionCaption"]

_NAME = "JoyCaption"


class JoyCaptionCaption(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JoyCaptionCaption",
            display_name=_NAME,
            category="JoyCaption",
            description="Writes a caption for every picture: one, a batch, or a list of different sizes.",
            search_aliases=["joy caption", "caption image", "describe image", "image to text", "interrogate", "tagger"],
            inputs=[
                ModelSocket.Input("model"),
                io.Image.Input("image", tooltip="One picture, a batch, or a list of any sizes."),
                *writing_inputs(),
            ],
            outputs=[
                io.String.Output(
                    "captions",
                    display_name="captions",
                    is_output_list=True,
                    tooltip="One for each picture, in their order; empty where one failed.",
                )
            ],
            is_input_list=True,
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: list[Model],
        image: list[Any],
        custom_prompt: list[str],
        begin_with: list[str],
        system_prompt: list[str],
        sampling: list[str],
        temperature: list[float],
        top_p: list[float],
        top_k: list[int],
        min_p: list[float],
        seed: list[int],
        max_tokens: list[int],
        options: list[Options] | None = None,
    ) -> io.NodeOutput:
        with failing_as(_NAME):
            texts = {"custom_prompt": custom_prompt, "begin_with": begin_with, "system_prompt": system_prompt}
            filters: dict[str, list[Any]] = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p}
            check_lists(model=model, **texts, sampling=sampling, **filters, seed=seed, max_tokens=max_tokens)
            with of_input("image"):
                pictures = pictures_of(image)
            with of_input("sampling"):
                chosen = sampling_of(sampling[0], temperature[0], top_p[0], top_k[0], min_p[0], max_tokens[0])
            requests = [
                Request(
                    picture,
                    along(options or [Options()], position).prompt(along(custom_prompt, position)),
                    system_of(along(system_prompt, position)),
                    along(begin_with, position),
                    chosen,
                    _seed(seed, position),
                )
                for position, picture in enumerate(pictures)
            ]
            captions = _captions(model[0], requests)
            problems = _problems(captions)
        written = [caption.text for caption in captions]
        return io.NodeOutput(written, ui={"text": [*problems, *written]})


def _seed(seeds: list[int], position: int) -> int:
    """A seed of its own for every picture, which does not depend on the others."""
    seed = along(seeds, position)
    return seed if position < len(seeds) else derive_seed(seed, position)


def _captions(model: Model, requests: list[Request]) -> list[Caption]:
    """Captions in the order of the requests, as one run."""
    max_tokens = requests[0].sampling.max_new_tokens
    captioner = model.ready(max_tokens, len(requests))
    progress = host.CaptionProgress(len(requests), max_tokens)
    captions: dict[int, Caption] = {}
    for position, caption in captioner.caption(requests, should_stop=progress.step):
        captions[position] = caption
        progress.captioned()
    return [captions[position] for position in range(len(requests))]


def _problems(captions: list[Caption]) -> list[str]:
    """Which pictures failed and why, for the node and the log.

    Raises:
        ModelError: all of them: then there is nothing to go on with.
    """
    failed = [
        (position, caption.error or "the model wrote nothing.")
        for position, caption in enumerate(captions, 1)
        if not caption.complete
    ]
    problems = [f"Picture {position} of {len(captions)} failed: {error}" for position, error in failed]
    if len(failed) == len(captions):
        causes = " ".join(dict.fromkeys(error for _, error in failed[:3]))
        raise ModelError(f"no picture of image got a caption. {causes}")
    for problem in problems:
        logging.warning("%s: %s", _NAME, problem)
    return problems

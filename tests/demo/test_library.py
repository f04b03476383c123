"""The demo checkpoint is one that transformers reads, and there it writes the same captions."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from support.models import load_library_model
from transformers import AutoTokenizer

from joycaption.captioners.joycaption import JoyCaption
from joycaption.demo import MODEL
from joycaption.demo.scenes import draw, random_scene
from joycaption.prompts import DEFAULT_SYSTEM_PROMPT, build_prompt
from joycaption.types import Request, Sampling

SCENES = 50


@pytest.mark.oracle
def test_greedy_text_is_the_librarys_on_50_scenes() -> None:
    captioner = JoyCaption(MODEL, device="cpu", batch_size=8)
    library, tokenizer = load_library_model(MODEL), AutoTokenizer.from_pretrained(MODEL)
    rng = random.Random(11)
    options = [{}, {"tone": "casual"}, {"type": "danbooru"}, {"length": "long"}, {"length": 30}]
    requests = [
        Request(draw(random_scene(rng)), build_prompt(**options[index % 5]), sampling=Sampling.greedy(120))
        for index in range(SCENES)
    ]
    ours = dict(captioner.caption(requests))
    for index, request in enumerate(requests):
        assert ours[index].text == _library_text(library, tokenizer, captioner, request)


def _library_text(library: object, tokenizer: object, captioner: JoyCaption, request: Request) -> str:
    """The library's loop, template and tokenizer; the picture's tokens repeated as its processor does."""
    messages = [
        {"role": "system", "content": DEFAULT_SYSTEM_PROMPT},
        {"role": "user", "content": request.prompt},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    image = tokenizer.convert_ids_to_tokens(captioner.config.image_token)
    ids = tokenizer(text.replace(image, image * 64), add_special_tokens=False, return_tensors="pt").input_ids
    output = library.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=captioner.prompt(request).pixels[None],
        max_new_tokens=120,
        do_sample=False,
    )
    return tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip()


def test_the_folder_holds_what_a_published_one_does() -> None:
    names = {path.name for path in Path(MODEL).iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    assert {"model.safetensors", "preprocessor_config.json", "training.log"} <= names
    assert sum(path.stat().st_size for path in Path(MODEL).iterdir()) < 10e6

"""JoyCaption: what the library writes for the same pixels, prompt and seed, whatever comes together in a graph."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from PIL import Image
from support.nodepack import Host, Pack, image_of

from joycaption import Request, Sampling, build_prompt, derive_seed
from joycaption.captioners import Captioner
from joycaption.demo.scenes import draw, random_scene
from joycaption.prompts import BETA_ONE

Captions: TypeAlias = Callable[..., Any]

SCENES = [draw(random_scene(random.Random(number)), 96 * 96) for number in range(12)]
# So wild that every picture, prompt and seed has a text of its own.
WILD = Sampling(temperature=2.0, top_p=1.0, max_new_tokens=16)
WILDLY: dict[str, Any] = {"temperature": 2.0, "top_p": 1.0, "max_tokens": 16}
GREEDILY: dict[str, Any] = {"sampling": "greedy", "max_tokens": 80}
BLACK = image_of(SCENES[0]) * float("nan")  # what a diffusion run leaves that went wrong


@pytest.fixture
def caption(pack: Pack) -> Captions:
    """Run the node on the demo model, with wild sampling where nothing else is said."""
    model = pack.run("JoyCaptionLoad").result[0]
    return lambda image, **inputs: pack.run("JoyCaptionCaption", **{"model": model, "image": image, **WILDLY, **inputs})


@pytest.fixture(scope="session")
def text(library: Captioner) -> Callable[..., str]:
    """The library's caption of one picture that is alone."""

    def text(picture: Any, prompt: str = build_prompt(), sampling: Sampling = WILD, **changed: Any) -> str:
        _, caption = next(iter(library.caption([Request(picture, prompt, sampling=sampling, **changed)])))
        assert caption.error is None
        return caption.text

    return text


class TestPictures:
    @pytest.mark.parametrize("groups", [[1], [3], [1, 3, 1, 2]], ids=["one", "a batch", "a list with batches"])
    def test_each_has_the_librarys_caption_in_order(
        self, caption: Captions, text: Callable[..., str], groups: list[int]
    ) -> None:
        scenes = iter(SCENES)
        pictures = [
            [next(scenes).resize((80 + 16 * group, 96)) for _ in range(size)] for group, size in enumerate(groups)
        ]
        (captions,) = caption([image_of(*batch) for batch in pictures], seed=7).result
        flat = [picture for batch in pictures for picture in batch]
        seeds = [7, *(derive_seed(7, position) for position in range(1, len(flat)))]
        assert captions == [text(picture, seed=seed) for picture, seed in zip(flat, seeds, strict=True)]
        assert len(set(captions)) == len(flat)

    def test_order_stays_where_captions_end_in_another(
        self, host: Host, caption: Captions, text: Callable[..., str]
    ) -> None:
        (captions,) = caption([image_of(picture) for picture in SCENES], **GREEDILY).result
        assert captions == [text(picture, sampling=Sampling.greedy(80)) for picture in SCENES]
        assert len({len(caption) for caption in captions}) > 5
        assert len(host.management.rooms) == 1  # all of them in one run

    def test_what_is_transparent_is_white(self, caption: Captions, text: Callable[..., str]) -> None:
        mask = Image.new("L", SCENES[0].size, 255)
        mask.paste(0, (0, 0, mask.width // 2, mask.height))
        flat = Image.composite(SCENES[0], Image.new("RGB", mask.size, "white"), mask)
        cut_out = SCENES[0].copy()
        cut_out.putalpha(mask)
        assert caption(image_of(cut_out)).result == ([text(flat)],)

    def test_one_channel_is_grey(self, caption: Captions, text: Callable[..., str]) -> None:
        grey = SCENES[0].convert("L")
        assert image_of(grey).shape[-1] == 1
        assert caption(image_of(grey)).result == ([text(grey.convert("RGB"))],)

    @pytest.mark.parametrize(
        ("image", "said"),
        [
            ([], "the list is empty"),
            (torch.rand(0, 64, 64, 3), "the list is empty"),
            (torch.rand(1, 64, 64), "a mask"),
            ("cat.png", "a str"),
        ],
    )
    def test_what_is_no_picture(self, pack: Pack, caption: Captions, image: Any, said: str) -> None:
        with pytest.raises(pack.NodeError, match=f"^JoyCaption: input image: .*{said}"):
            caption(image)


class TestFailures:
    def test_a_broken_picture_fails_alone_and_is_named(
        self, caption: Captions, text: Callable[..., str], caplog: pytest.LogCaptureFixture
    ) -> None:
        node = caption([image_of(SCENES[0]), BLACK, image_of(SCENES[2])], seed=5)
        first, last = text(SCENES[0], seed=5), text(SCENES[2], seed=derive_seed(5, 2))
        assert node.result == ([first, "", last],)
        problem, *shown = node.ui["text"]
        assert problem.startswith("Picture 2 of 3 failed: ") and "nan" in problem
        assert shown == [first, "", last]
        assert caplog.messages == [f"JoyCaption: {problem}"]

    @pytest.mark.parametrize("pictures", [1, 5])
    def test_nothing_but_broken_pictures(self, pack: Pack, caption: Captions, pictures: int) -> None:
        with pytest.raises(pack.NodeError, match=r"^JoyCaption: .*from nan") as told:
            caption(BLACK.repeat(pictures, 1, 1, 1))
        assert str(told.value).count("from nan") == 1

    @pytest.mark.parametrize("pictures", [1, 5])
    @pytest.mark.parametrize("where", ["custom_prompt", "system_prompt", "begin_with"])
    def test_a_special_token_is_told_once_and_not_of_the_pictures(
        self, pack: Pack, caption: Captions, where: str, pictures: int
    ) -> None:
        with pytest.raises(pack.NodeError, match=r"^JoyCaption: .*<\|eot_id\|>") as told:
            caption(image_of(SCENES[0]).repeat(pictures, 1, 1, 1), **{where: "Hello <|eot_id|> there"})
        assert str(told.value).count("<|eot_id|>") == 1
        assert "input image" not in str(told.value)

    def test_more_tokens_than_the_model_has_room_for(self, pack: Pack, caption: Captions) -> None:
        with pytest.raises(pack.NodeError, match=r"^JoyCaption: .*4096") as told:
            caption(image_of(SCENES[0]), max_tokens=4096)
        assert "input image" not in str(told.value)

    @pytest.mark.parametrize(
        ("inputs", "said"),
        [
            ({"top_p": 0.0}, "input sampling: top_p is 0.0"),
            ({"seed": 2**64}, "seed is 18446744073709551616"),
        ],
    )
    def test_a_value_outside_its_range(self, pack: Pack, caption: Captions, inputs: dict[str, Any], said: str) -> None:
        with pytest.raises(pack.NodeError, match=f"^JoyCaption: .*{said}"):
            caption(image_of(SCENES[0]), **inputs)

    @pytest.mark.parametrize("name", ["custom_prompt", "system_prompt", "begin_with", "seed", "max_tokens"])
    def test_a_list_that_is_empty(self, pack: Pack, caption: Captions, name: str) -> None:
        with pytest.raises(pack.NodeError, match=f"^JoyCaption: input {name}: the list is empty"):
            caption(image_of(SCENES[0]), **{name: []})

    def test_a_model_that_writes_nothing(self, pack: Pack) -> None:
        caption, node = pack.module("joycaption.types").Caption, pack.module("nodes.caption")
        (problem,) = node._problems([caption("A cat.", "stop"), caption("", "stop")])
        assert problem == "Picture 2 of 2 failed: the model wrote nothing."


class TestPrompts:
    def test_options(self, pack: Pack, caption: Captions, text: Callable[..., str]) -> None:
        options, prompt = pack.run("JoyCaptionOptions", type="MidJourney", length="short", no_text=True).result
        assert caption(image_of(SCENES[0]), options=options).result == ([text(SCENES[0], prompt)],)
        assert text(SCENES[0], prompt) != text(SCENES[0])

    def test_your_own_keeps_extras_and_name_and_its_braces(
        self, pack: Pack, caption: Captions, text: Callable[..., str]
    ) -> None:
        options = pack.run("JoyCaptionOptions", type="MidJourney", tone="wry", name="Ada", lighting=True).result[0]
        own = "List {{all}} the {shapes}, {name}."
        whole = f"{own} {BETA_ONE.name_option.replace('{name}', 'Ada')} {BETA_ONE.extras['lighting']}"
        assert caption(image_of(SCENES[0]), custom_prompt=own).result == ([text(SCENES[0], own)],)
        assert caption(image_of(SCENES[0]), custom_prompt=own, options=options).result == ([text(SCENES[0], whole)],)

    @pytest.mark.parametrize("blank", ["", " \n"])
    def test_blank_texts_are_the_defaults(self, caption: Captions, text: Callable[..., str], blank: str) -> None:
        node = caption(image_of(SCENES[0]), custom_prompt=blank, system_prompt=blank, begin_with=blank)
        assert node.result == ([text(SCENES[0])],)

    def test_system_prompt_and_begin_with(self, caption: Captions, text: Callable[..., str]) -> None:
        said: dict[str, Any] = {"begin_with": "In this drawing", "system": "Be {brief}."}
        node = caption(image_of(SCENES[0]), begin_with=said["begin_with"], system_prompt=said["system"])
        assert node.result == ([text(SCENES[0], **said)],)
        assert node.result[0][0].startswith("In this drawing")

    @pytest.mark.parametrize("input", ["custom_prompt", "options", "system_prompt", "begin_with", "seed"])
    def test_a_list_goes_along_with_the_pictures(self, pack: Pack, caption: Captions, input: str) -> None:
        values: list[Any] = ["Name it.", "What is it?"]
        if input == "options":
            values = [pack.run("JoyCaptionOptions", type=kind).result[0] for kind in ("MidJourney", "Art Critic")]
        elif input == "seed":
            values = [3, 4]
        images = [image_of(picture) for picture in SCENES[:3]]
        together = caption(images, **{"seed": [1, 2, 3], input: [*values, values[0]]}).result[0]
        alone = [
            caption(image, **{"seed": seed, input: value}).result[0][0]
            for seed, image, value in zip((1, 2, 3), images, [*values, values[0]], strict=True)
        ]
        assert together == alone
        if input != "seed":  # the last value repeats
            assert caption(images, **{"seed": [1, 2, 3], input: values}).result[0][:2] == alone[:2]


class TestProgressAndInterrupt:
    def test_progress_never_goes_back_and_ends_full(self, host: Host, caption: Captions) -> None:
        caption([image_of(picture) for picture in SCENES], **GREEDILY)
        loading, captioning = host.bars
        assert loading == sorted(loading) and captioning == sorted(captioning)
        assert [values[-1] for values in host.bars] == [bar.total for bar in host.utils.bars]
        assert len(set(captioning)) > 50

    @pytest.mark.parametrize("update", [1, 2, 25, 60])
    def test_interrupt_in_the_middle(self, host: Host, caption: Captions, update: int) -> None:
        images = [image_of(picture) for picture in SCENES]
        before = caption(images, **GREEDILY).result
        host.at_update(update, host.press_stop)
        with pytest.raises(host.Interrupted):
            caption(images, **GREEDILY)
        assert 0 < len(host.bars[-1]) <= update + 2  # it did not go on
        assert caption(images, **GREEDILY).result == before

    def test_a_stop_that_is_over_does_not_end_the_next_run(self, host: Host, caption: Captions) -> None:
        host.press_stop()
        with pytest.raises(host.Interrupted):
            caption(image_of(SCENES[0]))
        assert caption(image_of(SCENES[0])).result[0][0]

"""The Python face: `load` a model, `CaptionModel.caption` a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .captioners import Captioner, load_captioner
from .errors import ModelError, UsageError
from .images import open_image
from .prompts import build_prompt
from .types import Caption, ImageInput, Request, Sampling, derive_seed

if TYPE_CHECKING:
    from .captioners.base import OnText, ShouldStop
    from .captioners.joycaption import Progress

__all__ = ["CaptionModel", "load"]


def load(
    model: str | Path = "beta-one",
    *,
    precision: str = "auto",
    device: str = "auto",
    batch_size: int = 8,
    folders: Sequence[Path] = (),
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> CaptionModel:
    """Load a captioning model.

    Args:
        model: ``"demo"`` (built in; knows drawn shapes only), ``"beta-one"`` (the published model, 17 GB, downloaded
            when it is not on this machine), a Hugging Face id ``"owner/name"``, or a folder.
        precision: ``"auto"``, ``"bf16"``, ``"fp16"`` or ``"fp32"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"xpu"`` or ``"mps"``.
        batch_size: captions written together, at most.
        folders: more folders to look for models in.
        progress: called with ("download" or "load", bytes done, bytes in all).
        should_stop: asked during download and load; True ends them with `Cancelled`.

    Raises:
        UsageError: an argument that is not allowed.
        ModelNotFound: no such model here, and none can be downloaded.
        DownloadError: the download failed or is damaged.
        CheckpointError: the model's files are broken or not supported.
        Cancelled: ``should_stop`` said so.
    """
    captioner = load_captioner(
        "joycaption",
        str(model),
        precision=precision,
        device=device,
        batch_size=batch_size,
        folders=folders,
        progress=progress,
        should_stop=should_stop,
    )
    return CaptionModel(captioner)


class CaptionModel:
    """A loaded model. Usable in a ``with`` block, which frees its memory at the end.

    Attributes:
        captioner: the seam below, for callers that bring their own stream of requests.
    """

    def __init__(self, captioner: Captioner) -> None:
        self.captioner = captioner

    def caption(self, image: ImageInput, **options: Any) -> Caption:
        """Caption one picture.

        Args:
            image: a path, an http(s) URL, bytes, a PIL image, a numpy array or a tensor.
            options: as for `caption_many`.

        Raises:
            ImageError: the picture cannot be read.
            UsageError: an option that is not allowed.
            ModelError: the model failed on this picture.
        """
        opened = open_image(image)
        stopped = 0, Caption(text="", finish_reason="interrupted")  # ``should_stop`` said so before the first step
        _, caption = next(self.caption_many([opened], **options), stopped)
        if caption.error is not None:
            raise ModelError(caption.error)
        return caption

    def caption_many(
        self,
        images: Iterable[ImageInput],
        *,
        type: str = "descriptive",
        length: str | int = "any",
        extras: Iterable[str] = (),
        name: str | None = None,
        tone: str | None = None,
        tags: str | Sequence[str] | None = None,
        prompt: str | None = None,
        system: str | None = None,
        begin_with: str = "",
        sampling: Sampling | None = None,
        seed: int = 0,
        on_text: OnText | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Iterator[tuple[int, Caption]]:
        """Caption any number of pictures, several at a time. Pictures are opened when their turn comes.

        Args:
            type, length, extras, name, tone, tags: see `joycaption.build_prompt`.
            prompt: your own instruction, in the place of type, length and tone.
            system: the system prompt; None takes the model's own.
            begin_with: how every caption shall begin.
            sampling: how tokens are chosen; the default is the author's, ``Sampling.greedy()`` the likeliest caption.
            seed: the first picture's seed; picture i takes one derived from it and i.
            on_text, should_stop: see `joycaption.captioners.base.Captioner`.

        Yields:
            (position of the picture, its caption) as captions end. A picture that fails has ``error`` set.

        Raises:
            UsageError: an option that is not allowed; raised at the call.
        """
        if isinstance(images, str | bytes) or not isinstance(images, Iterable) or getattr(images, "ndim", 4) != 4:
            raise UsageError("caption_many takes a list of pictures. For one picture call caption.")
        prompt = build_prompt(type, length, extras=extras, name=name, tone=tone, tags=tags, instruction=prompt)
        template = Request(
            image=b"", prompt=prompt, system=system, begin_with=begin_with, sampling=sampling or Sampling(), seed=seed
        )

        def request(position: int, image: ImageInput) -> Request:
            return replace(template, image=image, seed=derive_seed(seed, position) if position else seed)

        requests: Iterable[Request] = (request(position, image) for position, image in enumerate(images))
        if isinstance(images, Sequence):  # a known number, so that no more slots are made than are needed
            requests = list(requests)
        return self.captioner.caption(requests, on_text=on_text, should_stop=should_stop)

    def close(self) -> None:
        """Free the model's memory. The next caption loads it again."""
        self.captioner.close()

    def __enter__(self) -> CaptionModel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

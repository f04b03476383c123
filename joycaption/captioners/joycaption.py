"""The JoyCaption captioner: files to pixels, prompts to tokens, and the engine's tokens back to text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from ..engine import Engine, Prompt, Step
from ..engine.cache import KVCache
from ..errors import UsageError
from ..images import open_image, pixel_values
from ..model.chat import Chat
from ..model.checkpoint import load_weights, parameter_count
from ..model.config import read_config
from ..model.download import resolve_model
from ..model.llava import Llava
from ..model.precision import choose_device, choose_precision
from ..prompts import DEFAULT_SYSTEM_PROMPT
from ..types import Caption, FinishReason, Request
from .base import OnText, ShouldStop, check_arguments

__all__ = ["JoyCaption", "Progress", "load"]

# progress(stage, bytes done, bytes in all)
Progress: TypeAlias = Callable[[Literal["download", "load"], int, int], None]

_PROMPT_TOKENS = 512  # of a prompt's text, generously
_MOST_SLOTS = 32
_TEXT_INTERVAL = 0.1  # seconds between two texts of one caption
_ONE_THREAD_UP_TO = 20_000_000  # parameters


def load(
    model: str,
    *,
    precision: str = "auto",
    device: str = "auto",
    batch_size: int = 8,
    folders: Sequence[Path] = (),
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> JoyCaption:
    """Find (or download) a model and load its weights.

    Raises:
        UsageError: an unknown precision or device, or a batch size below 1.
        ModelError: not found, not downloadable, broken or not supported.
        Cancelled: ``should_stop`` said so.
    """
    _check_settings(precision, device, batch_size)  # before 17 GB are fetched
    on_download = None if progress is None else (lambda done, total, _: progress("download", done, total))
    folder = resolve_model(model, folders=folders, progress=on_download, should_stop=should_stop)
    captioner = JoyCaption(folder, precision=precision, device=device, batch_size=batch_size)
    captioner.load(progress, should_stop)
    return captioner


class JoyCaption:
    """A `Captioner` for JoyCaption checkpoints: SigLIP, projector and Llama in the LLaVA layout.

    Args:
        folder: a model folder. Its config and tokenizer are read and checked at once, its weights by `load` or with
            the first caption.
        batch_size: captions decoded together.

    Raises:
        UsageError, CheckpointError: as for `load`.
    """

    def __init__(self, folder: Path, *, precision: str = "auto", device: str = "auto", batch_size: int = 8) -> None:
        _check_settings(precision, device, batch_size)
        self.folder, self.batch_size = folder, batch_size
        self.config = read_config(folder)
        self.device = choose_device(device)
        self.parameters = parameter_count(self.config)
        self.dtype = choose_precision(precision, self.device, self.parameters)
        self.chat = Chat(folder, self.config)
        self._model: Llava | None = None

    @property
    def weight_bytes(self) -> int:
        """What the weights take on the device."""
        return self.parameters * self.dtype.itemsize

    def working_bytes(self, max_new_tokens: int, captions: int | None = None) -> int:
        """About what a run takes beside the weights, for a host that makes room: the KV cache and activations.

        Args:
            max_new_tokens: the longest caption.
            captions: how many are asked for, where that is known; at most ``batch_size`` of them run at once.
        """
        slots = self.batch_size if captions is None else min(captions, self.batch_size)
        return self._prefill_bytes() + slots * self._slot_bytes(max_new_tokens)

    def slots_within(self, capacity: int, max_new_tokens: int) -> int:
        """How many captions may run at once where weights and working memory have so many bytes; 1 to 32."""
        room = capacity - self.weight_bytes - self._prefill_bytes()
        return min(max(1, room // self._slot_bytes(max_new_tokens)), _MOST_SLOTS)

    def _prefill_bytes(self) -> int:
        # The widest point of a prefill is the MLP; gate, up and their product are held at once.
        prompt = self.config.vision.patches + _PROMPT_TOKENS
        return int(3 * prompt * self.config.text.intermediate_size * self.dtype.itemsize)

    def _slot_bytes(self, max_new_tokens: int) -> int:
        length = self.config.vision.patches + _PROMPT_TOKENS + max_new_tokens
        logits = 4 * self.config.text.vocab_size * torch.float32.itemsize  # the sampler works on copies
        return KVCache.bytes_for(self.config.text, 1, length, self.dtype) + int(logits)

    def load(self, progress: Progress | None = None, should_stop: ShouldStop | None = None) -> Llava:
        """The model, its weights loaded now if they are not yet."""
        if self._model is None:
            self._model = load_weights(
                self.folder,
                self.config,
                device=self.device,
                dtype=self.dtype,
                progress=None if progress is None else lambda done, total: progress("load", done, total),
                should_stop=should_stop,
            )
        return self._model

    def close(self) -> None:
        self._model = None  # nothing else holds it, so its memory is free at once
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def caption(
        self,
        requests: Iterable[Request | None],
        *,
        on_text: OnText | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Iterator[tuple[int, Caption]]:
        check_arguments(requests, on_text, should_stop)
        slots = min(self.batch_size, len(requests)) if isinstance(requests, Sequence) else self.batch_size
        engine = Engine(self.load(should_stop=should_stop), slots=max(1, slots), stop_tokens=self.chat.stop_tokens)
        return _Run(self, engine, on_text, should_stop or (lambda: False)).results(iter(requests))

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Run a small model on a CPU with one thread, and give torch its own number back afterwards.

        Between operations this short, threads mostly wait for each other: the demo model is 12 times as fast with one
        thread as with two (2 cores, torch 2.13).
        """
        threads = torch.get_num_threads()
        if self.device.type != "cpu" or self.parameters > _ONE_THREAD_UP_TO or threads == 1:
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def prompt(self, request: Request) -> Prompt:
        """What the engine needs of a request: its token ids and pixels.

        Raises:
            ImageError: the picture cannot be read.
            UsageError: a text holds a special token.
        """
        system = DEFAULT_SYSTEM_PROMPT if request.system is None else request.system
        tokens = self.chat.encode(request.prompt, system, request.begin_with)
        pixels = pixel_values(open_image(request.image), self.config.vision.image_size)
        return Prompt(tokens, torch.from_numpy(pixels), request.sampling, request.seed)


def _check_settings(precision: str, device: str, batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise UsageError(f"batch_size is {batch_size!r}, but must be a whole number, 1 or more.")
    choose_precision(precision, choose_device(device), parameters=0)


@dataclass(slots=True)
class _Running:
    """A caption in the making."""

    position: int
    begin_with: str
    prompt_tokens: int
    started: float = field(default_factory=time.monotonic)
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    last_text: float = 0.0


class _Run:
    """One call of `JoyCaption.caption`. It owns its engine, so ending it in any way frees every slot."""

    def __init__(self, captioner: JoyCaption, engine: Engine, on_text: OnText | None, should_stop: ShouldStop) -> None:
        self.captioner, self.engine = captioner, engine
        self.on_text, self.should_stop = on_text, should_stop
        self.running: dict[int, _Running] = {}  # by the engine's id
        self.positions = 0
        self.exhausted = False

    def results(self, source: Iterator[Request | None]) -> Iterator[tuple[int, Caption]]:
        try:
            while not self.exhausted or self.running:
                if self.should_stop():
                    yield from self._interrupted()
                    return
                yield from self._admit(source)
                yield from self._advance()
        finally:
            del self.engine  # or whoever keeps an exception would keep the KV cache with it

    def _admit(self, source: Iterator[Request | None]) -> Iterator[tuple[int, Caption]]:
        """Take one request when a slot is free: between any two of them ``should_stop`` is asked."""
        if not self.engine.room or self.exhausted:
            return
        try:
            request = next(source)
        except StopIteration:
            self.exhausted = True
            return
        if request is None:
            return
        position = self.positions
        self.positions += 1
        try:
            prompt = self.captioner.prompt(request)
            id = self.engine.add(prompt)
        except Exception as error:  # whatever a picture or a prompt provokes is this request's alone
            yield position, Caption.failed(_sentence(error))
            return
        self.running[id] = _Running(position, request.begin_with.rstrip(), len(prompt.tokens))

    def _advance(self) -> Iterator[tuple[int, Caption]]:
        """One engine step, and the captions that it ended."""
        if not self.running:
            return
        try:
            with self.captioner.threads():
                steps = self.engine.step()
        except RuntimeError as error:  # torch's own kind, out of memory included: it concerns all that run
            yield from self._failed(f"The model failed: {error}")
            return
        for step in steps:
            yield from self._take(step)

    def _take(self, step: Step) -> Iterator[tuple[int, Caption]]:
        caption = self.running[step.id]
        if step.token is not None:
            caption.tokens.append(step.token)
            caption.logprob += step.logprob
        if step.finish is not None:
            del self.running[step.id]
            yield caption.position, self._caption(caption, step.finish, step.error)
        elif self.on_text is not None and time.monotonic() - caption.last_text >= _TEXT_INTERVAL:
            caption.last_text = time.monotonic()
            self.on_text(caption.position, self._text(caption))

    def _interrupted(self) -> Iterator[tuple[int, Caption]]:
        for caption in self._drop_all():
            yield caption.position, self._caption(caption, "interrupted")

    def _failed(self, error: str) -> Iterator[tuple[int, Caption]]:
        for caption in self._drop_all():
            yield caption.position, self._caption(caption, "error", error)

    def _drop_all(self) -> list[_Running]:
        for id in self.running:
            self.engine.abort(id)
        dropped = list(self.running.values())
        self.running.clear()
        return dropped

    def _caption(self, caption: _Running, finish: FinishReason, error: str | None = None) -> Caption:
        tokens = len(caption.tokens)
        return Caption(
            text="" if error else self._text(caption),
            finish_reason=finish,
            error=error,
            prompt_tokens=caption.prompt_tokens,
            tokens=tokens,
            seconds=time.monotonic() - caption.started,
            mean_logprob=caption.logprob / tokens if tokens else None,
        )

    def _text(self, caption: _Running) -> str:
        # An unfinished multi-byte character at the end shows as U+FFFD until its last byte comes.
        return (
            (caption.begin_with + self.captioner.chat.decode(caption.tokens))
            .rstrip("\N{REPLACEMENT CHARACTER}")
            .strip()
        )


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__

"""Compares this project's model code with transformers' own, on a checkpoint and on the user's machine.

Both read the same files; both get the same token ids and pixels. The first logits are compared as a ratio of 2-norms,
and a greedy caption token by token.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .captioners.joycaption import JoyCaption
from .engine import Engine, Prompt
from .errors import CheckpointError, UsageError
from .images import open_image
from .prompts import build_prompt
from .types import ImageInput, Request, Sampling

__all__ = ["Verification", "verify_model"]

# The first logits' error that counts as equal: rounding in another order, per number format (as a ratio of 2-norms).
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True, slots=True)
class Verification:
    """What the comparison found.

    Attributes:
        logits_error: norm of the difference of the first logits over the norm of the library's.
        ours, library: the greedy captions.
        tokens: how many tokens the library's caption has.
        parted_at: the first token that differs, counted from 0, or None.
        margin: how far apart the library's two best logits were at that token; a small margin means a tie that rounding
            decided.
        assumed: figures that the config leaves to its class's default.
    """

    dtype: str
    device: str
    transformers: str
    torch: str
    logits_error: float
    tolerance: float
    ours: str
    library: str
    tokens: int
    parted_at: int | None
    margin: float | None
    assumed: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """True when the logits agree within rounding and, in fp32, every token is the same.

        In bf16 and fp16 two right programs may part at a near-tie, so there the logits decide.
        """
        return self.logits_error <= self.tolerance and (self.parted_at is None or self.dtype != "float32")


def verify_model(
    folder: Path,
    image: ImageInput,
    *,
    precision: str = "auto",
    device: str = "auto",
    new_tokens: int = 60,
    say: Callable[[str], None] = lambda line: None,
) -> Verification:
    """Run both implementations on one picture, one after the other so that only one model is in memory at a time.

    Args:
        folder: a model folder.
        say: told what is happening, a line at a time.

    Raises:
        UsageError: transformers is not installed.
        ModelError: the checkpoint cannot be read, by us or by the library.
        ImageError: the picture cannot be read.
    """
    transformers = _transformers()
    captioner = JoyCaption(folder, precision=precision, device=device, batch_size=1)
    request = Request(open_image(image), build_prompt(), sampling=Sampling.greedy(new_tokens))
    prompt = captioner.prompt(request)

    say(f"Running this project's code ({captioner.dtype}, {captioner.device}) ...")
    our_logits, our_tokens = _ours(captioner, prompt)
    captioner.close()
    say(f"Running transformers {transformers.__version__} ...")
    model = _library_model(transformers, folder, captioner)
    logits, tokens = _library(model, captioner, prompt)
    del model
    gc.collect()

    parted = _parting(our_tokens, tokens)
    return Verification(
        dtype=str(captioner.dtype).removeprefix("torch."),
        device=str(captioner.device),
        transformers=transformers.__version__,
        torch=torch.__version__,
        logits_error=float((our_logits - logits[0]).norm() / logits[0].norm()),
        tolerance=TOLERANCE[captioner.dtype],
        ours=captioner.chat.decode(our_tokens).strip(),
        library=captioner.chat.decode(tokens).strip(),
        tokens=len(tokens),
        parted_at=parted,
        margin=None if parted is None or parted >= len(logits) else _margin(logits[parted]),
        assumed=captioner.config.assumed,
    )


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise UsageError(
            "verify compares with transformers, which is not installed: pip install transformers"
        ) from None
    return transformers


@torch.inference_mode()
def _ours(captioner: JoyCaption, prompt: Prompt) -> tuple[Tensor, list[int]]:
    """Our first logits [vocabulary], fp32 on the CPU, and the greedy tokens."""
    from .engine.engine import prefill

    engine = Engine(captioner.load(), slots=1, stop_tokens=captioner.chat.stop_tokens)
    engine.add(prompt)
    tokens: list[int] = []
    while not engine.idle:
        for step in engine.step():
            if step.token is None:
                raise CheckpointError(f"{step.error}")
            tokens.append(step.token)
    logits = prefill(engine.model, engine.cache, engine.rope, 0, prompt)
    return logits[0].float().cpu(), tokens


def _library_model(transformers: Any, folder: Path, captioner: JoyCaption) -> Any:
    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    form = "dtype" if (major, minor) >= (4, 56) else "torch_dtype"
    try:
        model = transformers.LlavaForConditionalGeneration.from_pretrained(folder, **{form: captioner.dtype})
    except Exception as error:  # whatever that library raises on this machine is the answer the user asked for
        raise CheckpointError(f"transformers {transformers.__version__} cannot load {folder}: {error}") from error
    return model.to(captioner.device).eval()


@torch.inference_mode()
def _library(model: Any, captioner: JoyCaption, prompt: Prompt) -> tuple[list[Tensor], list[int]]:
    """The library's logits before each token [vocabulary], fp32 on the CPU, and its greedy tokens."""
    ids = torch.tensor([list(prompt.tokens)], device=captioner.device)
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=prompt.pixels[None].to(captioner.device, captioner.dtype),
        max_new_tokens=prompt.sampling.max_new_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        eos_token_id=sorted(captioner.chat.stop_tokens),
        pad_token_id=min(captioner.chat.stop_tokens),
        return_dict_in_generate=True,
        output_logits=True,
    )
    return [row[0].float().cpu() for row in output.logits], output.sequences[0, ids.shape[1] :].tolist()


def _parting(ours: Sequence[int], library: Sequence[int]) -> int | None:
    if list(ours) == list(library):
        return None
    pairs = zip(ours, library, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(library)))


def _margin(logits: Tensor) -> float:
    best, second = logits.topk(2).values.tolist()
    return float(best - second)

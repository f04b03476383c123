"""Trains the demo model from nothing: ``python -m joycaption.demo.train``. Seeded, no network, two CPU cores.

Three phases. Scenes are drawn once and kept as the 128x128 pixels that the model sees. The vision tower learns alone,
from a dense loss: what is under each patch. Then everything learns together: each picture is shared by several
requests with their answers, packed behind it under a block mask, while the dense loss keeps the tower honest.

The modules are the library's own; the files that come out are a published-layout checkpoint.
"""

from __future__ import annotations

import argparse
import io
import math
import multiprocessing
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from ..images import pixel_values
from ..model.config import ModelConfig, parse_config
from ..model.llama import Attend, RopeTable
from ..model.llava import Llava
from ..prompts import BETA_ONE, build_prompt
from . import MODEL
from .checkpoint import demo_config, save_demo
from .language import REGISTERS, write
from .scenes import BACKGROUNDS, CELLS, COLORS, FILLS, SHAPES, SIZES, Scene, draw, random_scene
from .tokenizer import IMAGE_TOKEN, build_tokenizer

SIZE = 128
PATCHES = 8  # along each side
NOTHING = 255
VOCABULARY = 1088
REQUESTS = 5  # drawn for each row
SYSTEM_SHARE = 0.85  # of the pictures come with the default system prompt

# How often each register is asked for. Descriptive is what people use.
REGISTER_WEIGHTS = {
    "descriptive": 34, "formal": 10, "casual": 8, "straightforward": 10, "stable_diffusion": 8, "midjourney": 4,
    "danbooru": 6, "e621": 3, "rule34": 3, "booru": 6, "art_critic": 2, "product_listing": 2, "social_media": 2,
}  # fmt: skip


# --- pictures ---


@dataclass(frozen=True)
class Pictures:
    """Drawn scenes: ``pixels`` [n, 3, 128, 128] uint8, ``owners`` [n, 64] the object under each patch or NOTHING."""

    scenes: list[Scene]
    pixels: Tensor
    owners: Tensor


def draw_pictures(count: int, seed: int) -> Pictures:
    chunks = [(seed + index, min(1000, count - start)) for index, start in enumerate(range(0, count, 1000))]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        drawn = pool.map(_draw_chunk, chunks)
    scenes = [scene for chunk in drawn for scene in chunk[0]]
    pixels = torch.from_numpy(np.concatenate([chunk[1] for chunk in drawn]))
    return Pictures(scenes, pixels, torch.tensor([_owners(scene) for scene in scenes], dtype=torch.uint8))


def _draw_chunk(job: tuple[int, int]) -> tuple[list[Scene], np.ndarray]:
    rng = random.Random(job[0])
    scenes = [random_scene(rng) for _ in range(job[1])]
    return scenes, np.stack([_as_seen(scene, rng) for scene in scenes])


def _as_seen(scene: Scene, rng: random.Random) -> np.ndarray:
    """The pixels [3, 128, 128] uint8 of a scene drawn at some size and perhaps saved as a JPEG."""
    picture = draw(scene, area=round(math.exp(rng.uniform(math.log(128**2), math.log(280**2)))))
    if rng.random() < 0.3:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=rng.randint(70, 95))
        picture = Image.open(file)
    return np.round((pixel_values(picture, SIZE) + 1) * 127.5).astype(np.uint8)


def _owners(scene: Scene) -> list[int]:
    owners = [NOTHING] * PATCHES**2
    for index, item in enumerate(scene.objects):
        left, top, right, bottom = item.box(scene.aspect)
        for patch in range(PATCHES**2):
            x, y = (patch % PATCHES + 0.5) / PATCHES, (patch // PATCHES + 0.5) / PATCHES
            if left < x < right and top < y < bottom:
                owners[patch] = index
        owners[int(item.y * PATCHES) * PATCHES + int(item.x * PATCHES)] = index
    return owners


class DenseLoss(nn.Module):
    """What lies under each patch: shape or nothing, and for a shape its colour, size, fill and cell; the background."""

    CLASSES = (len(SHAPES) + 1, len(COLORS), len(SIZES), len(FILLS), CELLS, len(BACKGROUNDS))

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.heads = nn.Linear(width, sum(self.CLASSES))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """``features`` [pictures, 64, width], ``labels`` [pictures, 64, 6] with -100 where a question has no answer."""
        outputs = self.heads(self.norm(features)).float().split(self.CLASSES, dim=-1)
        losses = (
            F.cross_entropy(output.flatten(0, 1), labels[..., index].flatten()) for index, output in enumerate(outputs)
        )
        return torch.stack(list(losses)).nansum()


def patch_labels(pictures: Pictures) -> Tensor:
    """The dense loss's answers [n, 64, 6], int64."""
    names = (list(COLORS), list(SIZES), FILLS)
    rows = []
    for scene, owners in zip(pictures.scenes, pictures.owners.tolist(), strict=True):
        background = list(BACKGROUNDS).index(scene.background)
        answers = {NOTHING: (len(SHAPES), -100, -100, -100, -100, background)}
        for index, item in enumerate(scene.objects):
            kinds = (names[0].index(item.color), names[1].index(item.size), names[2].index(item.fill))
            answers[index] = (list(SHAPES).index(item.shape), *kinds, item.cell, background)
        rows.append([answers[owner] for owner in owners])
    return torch.tensor(rows, dtype=torch.int16)


# --- requests ---


def random_request(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """An instruction as the published model knows it, and this scene's answer."""
    register = rng.choices(list(REGISTER_WEIGHTS), list(REGISTER_WEIGHTS.values()))[0]
    length = random_length(rng)
    tone = register if register in ("formal", "casual") else None
    kind = "descriptive" if tone else register
    extras = rng.sample(list(BETA_ONE.extras), rng.randint(1, 2)) if rng.random() < 0.08 else []
    name = rng.choice(("Ada", "Bob", "Mira", "Joan Vale")) if rng.random() < 0.02 else None
    tags = [item.shape for item in scene.objects] if rng.random() < 0.02 else None
    prompt = build_prompt(kind, length, extras=extras, name=name, tone=tone, tags=tags or None)
    return prompt, write(scene, register, length, rng)


def random_length(rng: random.Random) -> str | int:
    kind = rng.random()
    if kind < 0.5:
        return "any"
    if kind < 0.7:
        return rng.choices(("very short", "short", "medium-length", "long", "very long"), (3, 3, 2, 2, 1))[0]
    words = round(math.exp(rng.uniform(math.log(5), math.log(260))))
    return max(10, round(words / 10) * 10) if rng.random() < 0.6 else words


class Packer:
    """Token rows of one shared prefix (system, picture) and several requests behind it, with their block masks."""

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig) -> None:
        self.tokenizer, self.image, self.patches = tokenizer, config.image_token, config.vision.patches
        header, end = "<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>"
        dated = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
        self.prefixes = []
        for system in BETA_ONE.system_prompts.values():
            text = f"<|begin_of_text|>{header.format('system')}{dated}{system}{end}{header.format('user')}"
            ids = self.encode([f"{text}<|reserved_special_token_70|>{IMAGE_TOKEN}<|reserved_special_token_71|>"])[0]
            seen = ids.index(self.image)
            self.prefixes.append(ids[:seen] + [self.image] * self.patches + ids[seen + 1 :])
        self.between, self.end = end + header.format("assistant"), end

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def pack(self, scenes: list[Scene], width: int, rng: random.Random) -> dict[str, Tensor]:
        """Rows of ids, positions, targets (-100 where nothing is learnt) and segment numbers (0 for the prefix)."""
        rows = [self._row(scene, width, rng) for scene in scenes]
        longest = max(len(row[0]) for row in rows)
        padded = [
            torch.tensor([row[field] + [filler] * (longest - len(row[field])) for row in rows])
            for field, filler in enumerate((self.end_id, 0, -100, -1))
        ]
        return dict(zip(("ids", "positions", "targets", "segments"), padded, strict=True))

    def _row(self, scene: Scene, width: int, rng: random.Random) -> tuple[list[int], ...]:
        """The prefix and requests about one scene until ``width`` is full."""
        prefix = self.prefixes[0 if rng.random() < SYSTEM_SHARE else 1]
        ids, targets = list(prefix), [-100] * len(prefix)
        positions, segments = list(range(len(prefix))), [0] * len(prefix)
        asked = [random_request(scene, rng) for _ in range(REQUESTS)]
        prompts = self.encode([prompt + self.between for prompt, _ in asked])
        answers = self.encode([answer + self.end for _, answer in asked])
        for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True), start=1):
            length = len(prompt) + len(answer)
            if number > 1 and len(ids) + length > width:
                continue
            ids += prompt + answer
            targets += [-100] * (len(prompt) - 1) + answer + [-100]
            positions += range(len(prefix), len(prefix) + length)
            segments += [number] * length
        return ids, positions, targets, segments

    @property
    def end_id(self) -> int:
        return self.encode([self.end])[0][0]


def block_attention(segments: Tensor) -> Attend:
    """Each token sees the prefix and its own request, backwards only. Plain matmul: faster here than the fused call."""
    length = segments.shape[1]
    before = torch.ones(length, length, dtype=torch.bool).tril()
    related = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
    hidden = ~(related & before)[:, None, None]
    bias = torch.zeros(hidden.shape, dtype=torch.bfloat16).masked_fill(hidden, -1e9)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, heads, _, head_dim = q.shape
        q, k, v = (part.to(torch.bfloat16) for part in (q * head_dim**-0.5, k, v))
        grouped = q.view(batch, k.shape[1], heads // k.shape[1], length, head_dim)
        with torch.autocast("cpu", enabled=False):  # which would widen the softmax, the largest part, to fp32
            weights = (grouped @ k.unsqueeze(2).transpose(-1, -2) + bias).softmax(-1)
            return (weights @ v.unsqueeze(2)).view(batch, heads, length, head_dim)

    return attend


# --- training ---


@dataclass(frozen=True)
class Plan:
    """How long to train. The defaults take about 70 minutes on two cores that do nothing else."""

    scenes: int = 80_000
    vision_steps: int = 800
    joint_steps: int = 6500
    vision_batch: int = 64
    joint_batch: int = 16
    width: int = 240  # tokens in a row: the picture and as many requests as fit
    decay_share: float = 0.6
    vision_rate: float = 0.2  # of the joint phase's rate: at the full rate the tower forgets


def build_model(config: ModelConfig) -> Llava:
    model = Llava(config)
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    for layer in [*model.vision_tower.layers, *model.language_model.layers]:
        last = ("out_proj", "fc2", "o_proj", "down_proj")  # residual branches begin silent
        for name, parameter in layer.named_parameters():
            if any(part in name for part in last):
                nn.init.zeros_(parameter)
    nn.init.normal_(model.lm_head.weight, std=0.02)
    return model


def optimizers(groups: list[tuple[list[nn.Parameter], list[nn.Parameter], float]]) -> list[torch.optim.Optimizer]:
    """Muon for matrices, AdamW for the rest; each group is (matrices, rest, share of the learning rate)."""
    muon = torch.optim.Muon([{"params": m, "lr": 0.02 * rate} for m, _, rate in groups if m], weight_decay=0.01)
    adam = torch.optim.AdamW([{"params": r, "lr": 3e-3 * rate} for _, r, rate in groups if r], weight_decay=0.0)
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return [muon, adam]


def split_parameters(*modules: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Hidden matrices, and everything else: embeddings, heads, norms, biases, the patch convolution."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            hidden = parameter.ndim == 2 and not any(part in name for part in ("embed", "heads", "lm_head"))
            (matrices if hidden else rest).append(parameter)
    return matrices, rest


def set_rate(steppers: list[torch.optim.Optimizer], step: int, steps: int, decay_share: float) -> None:
    factor = min(1.0, (step + 1) / 100, (steps - step) / (steps * decay_share))
    for optimizer in steppers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor


def batches(count: int, size: int, steps: int, rng: random.Random) -> Iterator[list[int]]:
    """Picture numbers, each seen once before any is seen again."""
    order: list[int] = []
    for _ in range(steps):
        if len(order) < size:
            order = rng.sample(range(count), count)
        yield [order.pop() for _ in range(size)]


def as_pixels(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


class Log:
    """Prints and keeps one line every so many steps."""

    def __init__(self, file: Path) -> None:
        self.file, self.started = file, time.monotonic()
        file.write_text("", encoding="utf-8")

    def __call__(self, line: str) -> None:
        line = f"[{(time.monotonic() - self.started) / 60:6.1f} min] {line}"
        print(line, flush=True)
        with self.file.open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def train_vision(model: Llava, dense: DenseLoss, pictures: Pictures, labels: Tensor, plan: Plan, log: Log) -> None:
    steppers = optimizers([(*split_parameters(model.vision_tower, dense), 1.0)])
    rng, total = random.Random(1), 0.0
    for step, chosen in enumerate(batches(len(pictures.scenes), plan.vision_batch, plan.vision_steps, rng)):
        set_rate(steppers, step, plan.vision_steps, plan.decay_share)
        with torch.autocast("cpu", torch.bfloat16):
            loss = dense(model.vision_tower(as_pixels(pictures.pixels[chosen])), labels[chosen].long())
        total += update(loss, steppers, [*model.vision_tower.parameters(), *dense.parameters()])
        if (step + 1) % 100 == 0:
            log(f"vision {step + 1}/{plan.vision_steps}: dense loss {total / 100:.4f}")
            total = 0.0


def train_jointly(
    model: Llava, dense: DenseLoss, pictures: Pictures, labels: Tensor, packer: Packer, plan: Plan, log: Log
) -> None:
    steppers = optimizers(
        [
            (*split_parameters(model.multi_modal_projector, model.language_model, model.lm_head), 1.0),
            (*split_parameters(model.vision_tower, dense), plan.vision_rate),
        ]
    )
    rng, totals = random.Random(2), np.zeros(3)
    for step, chosen in enumerate(batches(len(pictures.scenes), plan.joint_batch, plan.joint_steps, rng)):
        set_rate(steppers, step, plan.joint_steps, plan.decay_share)
        packed = packer.pack([pictures.scenes[index] for index in chosen], plan.width, rng)
        with torch.autocast("cpu", torch.bfloat16):
            features = model.vision_tower(as_pixels(pictures.pixels[chosen]))
            seen = dense(features, labels[chosen].long())
            said, right = language_loss(model, features, packed)
        update(said + seen, steppers, [*model.parameters(), *dense.parameters()])
        totals += (said.item(), seen.item(), right)
        if (step + 1) % 100 == 0:
            said_mean, seen_mean, right_mean = totals / 100
            figures = f"text {said_mean:.4f}, dense {seen_mean:.4f}, token {right_mean:.4%}"
            log(f"joint {step + 1}/{plan.joint_steps}: {figures}")
            totals[:] = 0


def language_loss(model: Llava, features: Tensor, packed: dict[str, Tensor]) -> tuple[Tensor, float]:
    """Mean cross-entropy of the answers' tokens, and the share of them that is the likeliest token."""
    picture = model.multi_modal_projector(features)
    hidden = torch.stack([model.embed_prompt(ids, seen) for ids, seen in zip(packed["ids"], picture, strict=True)])
    positions = packed["positions"]
    rope = RopeTable(model.config.text, int(positions.max()) + 1, device=hidden.device, dtype=hidden.dtype)
    angles = rope.cos[positions][:, None], rope.sin[positions][:, None]
    hidden = model.language_model(hidden, angles, block_attention(packed["segments"]))
    learnt = packed["targets"] != -100
    logits, targets = model.lm_head(hidden[learnt]).float(), packed["targets"][learnt]
    right = (logits.detach().argmax(-1) == targets).float().mean().item()
    return F.cross_entropy(logits, targets), right


def update(loss: Tensor, steppers: list[torch.optim.Optimizer], parameters: list[nn.Parameter]) -> float:
    for optimizer in steppers:
        optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in steppers:
        optimizer.step()
    return loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=MODEL)
    parser.add_argument("--seed", type=int, default=0)
    for name, value in (
        ("scenes", Plan.scenes),
        ("vision-steps", Plan.vision_steps),
        ("joint-steps", Plan.joint_steps),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    plan = Plan(arguments.scenes, arguments.vision_steps, arguments.joint_steps)

    torch.manual_seed(arguments.seed)
    torch.set_num_threads(2)
    arguments.out.mkdir(parents=True, exist_ok=True)
    log = Log(arguments.out / "training.log")
    log(f"{plan}")
    pictures = draw_pictures(plan.scenes, seed=1_000_000 * (arguments.seed + 1))
    labels = patch_labels(pictures)
    log(f"drew {len(pictures.scenes)} scenes")

    rng = random.Random(arguments.seed)
    texts = [text for scene in pictures.scenes[:20_000] for text in random_request(scene, rng)]
    tokenizer = build_tokenizer(texts, VOCABULARY)
    raw = demo_config(tokenizer)
    config = parse_config(raw)
    model, dense = build_model(config), DenseLoss(config.vision.hidden_size)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    log(f"{parameters / 1e6:.2f} M parameters, {len(REGISTERS)} registers")

    train_vision(model, dense, pictures, labels, plan, log)
    train_jointly(model, dense, pictures, labels, Packer(tokenizer, config), plan, log)
    save_demo(model, raw, tokenizer, arguments.out)
    log("saved")


if __name__ == "__main__":
    main()

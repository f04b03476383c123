"""What the nodes cost and gain in a real ComfyUI: ``python -m benchmarks.comfyui [--gpu]``.

Measures, each against its bound:
- start-up with the pack against start-up without it, alternating
- fifty pictures of seven sizes as one list against fifty single runs, alternating (random model of 26 million weights,
  64 picture tokens, 100 new tokens each)
- interrupts at random moments, loading included: from the request to the graph's end
- with ``--gpu``: the graphics memory that the weights take, and that "Unload models" gives back

ComfyUI is looked for as the tests do (COMFYUI_PATH, COMFYUI_PYTHON).
"""

from __future__ import annotations

import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from PIL import Image
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support import graphs
from support.comfyui import Client, ComfyUI, Server
from support.models import RANDOM_26M, save_checkpoint
from support.pictures import SIZES

REPEATS = 3
TOKENS = 100

Row: TypeAlias = tuple[str, str, str]


@contextmanager
def running(gpu: bool, pack: bool = True) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        packs = None if pack else {}
        with Server(ComfyUI.found(), Path(folder), gpu=gpu, packs=packs) as server:
            yield server


def start_up(gpu: bool) -> list[Row]:
    seconds: dict[bool, list[float]] = {True: [], False: []}
    imports = []
    for turn in range(2 * REPEATS + 2):
        pack = turn % 2 == 0
        started = time.monotonic()
        with running(gpu, pack) as server:
            if turn >= 2:  # the first of each fills the system's file cache
                seconds[pack].append(time.monotonic() - started)
            if pack:
                (found,) = re.findall(r"([\d.]+) seconds: \S*joycaption", server.log())
                imports.append(float(found))
    with_pack, without = (statistics.median(seconds[pack]) for pack in (True, False))
    return [
        ("start-up with and without the pack", f"{with_pack:.2f} s, {without:.2f} s", ""),
        ("start-up that the pack adds", f"{with_pack - without:+.2f} s", "under 0.3 s"),
        ("the same, as ComfyUI's log tells it", f"{statistics.median(imports):.1f} s", "under 0.3 s"),
    ]


def prepare(server: Server) -> list[str]:
    """The model, and fifty pictures of noise in coarse blocks."""
    save_checkpoint(server.folder / "models" / "joycaption" / "random", RANDOM_26M, spread=0.05)
    names = [f"{number:02}.png" for number in range(50)]
    for number, name in enumerate(names):
        noise = Image.effect_noise((8, 8), 120 + number).convert("RGB")
        noise.resize(SIZES[number % len(SIZES)], Image.Resampling.NEAREST).save(server.folder / "input" / name)
    return names


def one_list_against_single_runs(client: Client, names: list[str]) -> list[Row]:
    lists, singles = [], []
    client.run(graphs.single(names[0], "random", max_tokens=TOKENS))
    for seed in range(1, REPEATS + 1):  # greedy: the seed only keeps ComfyUI from giving the cached captions
        chosen = {"max_tokens": TOKENS, "seed": seed}
        started = time.monotonic()
        result = client.run(graphs.listed(names, "random", **chosen), timeout=600)
        lists.append(time.monotonic() - started)
        started = time.monotonic()
        alone = [client.run(graphs.single(name, "random", **chosen)) for name in names]
        singles.append(time.monotonic() - started)
        texts = [run.outputs["caption"]["text"][0] for run in alone]
        assert result.outputs["caption"]["text"] == texts, "captions in order, equal to the single ones"
        assert result.executed.count("caption") == 1
    ratios = [single / together for single, together in zip(singles, lists, strict=True)]
    return [
        (
            "50 pictures as one list; as 50 runs",
            f"{statistics.median(lists):.1f} s; {statistics.median(singles):.1f} s",
            "",
        ),
        (
            "how many times faster",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            "3 or more",
        ),
    ]


def interrupts(client: Client, names: list[str]) -> list[Row]:
    moments, waits = random.Random(0), []
    seed = 1000
    while len(waits) < 20:
        seed += 1
        client.free()  # so that loading is part of each run
        time.sleep(0.3)
        id = client.queue(graphs.listed(names[:8], "random", max_tokens=TOKENS, seed=seed))
        next(event for event in client.events(id) if event.type == "executing" and event.data["node"] == "caption")
        time.sleep(moments.uniform(0, 1.2))
        asked = time.monotonic()
        client.interrupt()
        result = client.wait(id)
        if result.interrupted:
            waits.append(result.events[-1].time - asked)
    shown = f"median {statistics.median(waits) * 1000:.0f} ms, longest {max(waits) * 1000:.0f} ms"
    return [("20 interrupts until the graph has stopped", shown, "200 ms after a step or shard")]


def graphics_memory(client: Client, names: list[str]) -> list[Row]:
    def free() -> int:
        (device,) = client.http.get("/system_stats").json()["devices"]
        return int(device["vram_free"])

    before = unload(client, free)
    client.run(graphs.single(names[0], "random", max_tokens=TOKENS, seed=2000))
    loaded = free()
    after = unload(client, free)
    taken, kept = (f"{(before - then) / 2**20:.0f} MB" for then in (loaded, after))
    return [("graphics memory with the weights loaded", taken, ""), ("the same after Unload models", kept, "about 0")]


def unload(client: Client, free: Callable[[], int]) -> int:
    for _ in range(10):  # ComfyUI may sleep through the first request
        client.free(unload_models=True, free_memory=False)
        time.sleep(0.3)
    return free()


def main() -> None:
    gpu = "--gpu" in sys.argv
    rows = start_up(gpu)
    with running(gpu) as server, Client(server) as client:
        names = prepare(server)
        rows += one_list_against_single_runs(client, names)
        rows += interrupts(client, names)
        if gpu:
            rows += graphics_memory(client, names)
    table = Table("what", "measured", "bound")
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()

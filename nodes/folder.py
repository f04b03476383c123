"""JoyCaption Folder: captions a folder of pictures in place, each saved the moment it is done."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from ..joycaption.captioners.lazy import LazyCaptioner
from ..joycaption.dataset import (
    FORMATS,
    Picture,
    Result,
    RunSettings,
    RunSummary,
    SidecarFormat,
    caption_dataset,
    count,
    scan,
    sidecar_format,
)
from ..joycaption.demo import SAMPLES
from ..joycaption.errors import DatasetError, UsageError
from . import host
from .explain import failing_as, of_input
from .model import Model
from .sockets import ModelSocket, Options
from .writing import sampling_of, system_of, writing_inputs

__all__ = ["SAMPLE_FOLDER", "JoyCaptionFolder"]

_NAME = "JoyCaption Folder"
_SKIP, _OVERWRITE = "skip", "overwrite"
_FAILURES_SHOWN = 5  # in an error
SAMPLE_FOLDER = "joycaption samples"  # below the input folder; made when the example workflow asks for it


class JoyCaptionFolder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JoyCaptionFolder",
            display_name=_NAME,
            category="JoyCaption",
            description="Captions every picture of a folder, for training. Each caption is saved beside its picture at"
            " once, so a run that was stopped goes on where it ended.",
            search_aliases=["joy caption", "caption folder", "batch caption", "dataset", "lora training", "tagger"],
            inputs=[
                ModelSocket.Input("model"),
                io.String.Input(
                    "folder",
                    default="",
                    placeholder="D:\\training\\my set",
                    tooltip="Absolute, or below ComfyUI's input folder.",
                ),
                io.Boolean.Input("recursive", default=False, tooltip="The pictures in its subfolders, too."),
                *writing_inputs(),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    tooltip="Kind of caption file, beside each picture: cat.png, cat.txt.",
                ),
                io.Combo.Input(
                    "existing",
                    options=[_SKIP, _OVERWRITE],
                    tooltip="What to do with pictures that have a caption.",
                ),
            ],
            outputs=[
                io.Int.Output("captioned", display_name="captioned"),
                io.Int.Output("skipped", display_name="skipped", tooltip="They had a caption."),
                io.Int.Output("failed", display_name="failed"),
                io.String.Output("summary", display_name="summary"),
                io.String.Output("failures", display_name="failures", tooltip="A line for each: picture and reason."),
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(
        cls, folder: str | None, recursive: bool, format: str, existing: str, **_: Any
    ) -> str | float:
        """Another one when pictures were added, changed or removed, or captions of them added or removed."""
        if None in (folder, recursive, format, existing):
            return float("nan")  # from other nodes, whose values are not known yet
        try:
            return _contents(host.check_dataset_folder(str(folder)), recursive, sidecar_format(format))
        except (UsageError, DatasetError, OSError):
            return float("nan")  # run, and say what is wrong

    @classmethod
    def execute(
        cls,
        model: Model,
        folder: str,
        recursive: bool,
        custom_prompt: str,
        begin_with: str,
        system_prompt: str,
        sampling: str,
        temperature: float,
        top_p: float,
        top_k: int,
        min_p: float,
        seed: int,
        max_tokens: int,
        format: str,
        existing: str,
        options: Options | None = None,
    ) -> io.NodeOutput:
        with failing_as(_NAME):
            with of_input("folder"):
                root = _folder(folder)
                scan([root], recursive=recursive)  # an empty folder is a mistake
            with of_input("sampling"):
                chosen = sampling_of(sampling, temperature, top_p, top_k, min_p, max_tokens)
            settings = RunSettings(
                prompt=(options or Options()).prompt(custom_prompt),
                system=system_of(system_prompt),
                begin_with=begin_with,
                sampling=chosen,
                seed=seed,
                sidecars=sidecar_format(format),
                overwrite=existing == _OVERWRITE,
            )
            summary, failures = _run(model, root, recursive, settings)
            told = f"{summary.captioned} captioned, {summary.skipped} skipped, {len(failures)} failed."
            told = f"{told} {summary.problem}".rstrip()
            if summary.problem or (failures and not summary.captioned + summary.skipped):
                raise DatasetError("\n".join([told, *failures[:_FAILURES_SHOWN]]))
        shown = ui.PreviewText("\n".join([told, *failures]))
        return io.NodeOutput(summary.captioned, summary.skipped, len(failures), told, "\n".join(failures), ui=shown)


def _folder(text: str) -> Path:
    folder = Path(text.strip())
    if folder == Path(SAMPLE_FOLDER):
        _copy_samples(host.input_folder() / folder)
    return host.check_dataset_folder(text)


def _copy_samples(folder: Path) -> None:
    """Sample pictures to try the node on; not into the pack's own folder, which may be read-only."""
    folder.mkdir(parents=True, exist_ok=True)
    for sample in scan([SAMPLES]):
        target = folder / sample.path.name
        if not target.exists():
            unfinished = target.with_name(f".{target.name}.tmp")
            shutil.copyfile(sample.path, unfinished)
            unfinished.replace(target)


def _run(model: Model, root: Path, recursive: bool, settings: RunSettings) -> tuple[RunSummary, list[str]]:
    """Caption the folder; the summary, and a line for each picture that failed."""
    total = count(picture for picture in scan([root], recursive=recursive) if not host.interrupted())
    progress = host.Progress()
    failures: list[str] = []
    settled = 0

    def on_result(result: Result) -> None:
        nonlocal settled
        settled += 1
        progress.set(settled, total)
        if result.status == "failed":
            failures.append(f"{result.picture.relative_to(root)}: {result.reason}")

    def pictures() -> Iterator[Picture]:
        for picture, permitted in _pictures(root, recursive):
            if permitted:
                yield picture
            else:
                on_result(Result(picture.path, "failed", reason="it is a link to a place that a graph may not touch"))

    captioner = LazyCaptioner(lambda: model.ready(settings.sampling.max_new_tokens))
    summary = caption_dataset(captioner, pictures(), settings, on_result=on_result, should_stop=host.interrupted)
    return summary, failures


def _pictures(root: Path, recursive: bool) -> Iterator[tuple[Picture, bool]]:
    """Each picture, and whether links lead neither it nor the caption beside it out of what a graph may touch."""
    allowed = host.permission()
    for picture in scan([root], recursive=recursive):
        yield picture, allowed(picture.path) and allowed(picture.path.parent)


def _contents(root: Path, recursive: bool, sidecars: SidecarFormat) -> str:
    """A digest of the folder's pictures, and of which of them have a caption."""
    digest = sha256()
    for picture, permitted in _pictures(root, recursive):
        if not permitted:
            continue
        state = picture.path.stat()
        captioned = bool(sidecars.read(picture.path))
        digest.update(f"{picture.name}|{state.st_size}|{state.st_mtime_ns}|{captioned}\n".encode())
    return digest.hexdigest()

"""What a caption run tells: each picture's result, and the figures at the end.

Captions go to stdout, as text or as JSON lines; failures, notes and figures to stderr.
"""

from __future__ import annotations

import json
from typing import Protocol

import typer
from rich.table import Table

from ..dataset import Picture, Result, RunSettings, RunSummary
from ..dataset.sidecars import one_line
from ..prompts import DEFAULT_SYSTEM_PROMPT
from .console import console, say, say_error

__all__ = ["JsonReport", "Report", "TextReport", "tell_summary"]


class Report(Protocol):
    """Tells of pictures, one by one."""

    def result(self, result: Result) -> None:
        """A picture is settled."""
        ...

    def prompt(self, settings: RunSettings) -> None:
        """Dry run: what the model would be asked."""
        ...

    def would_caption(self, picture: Picture) -> None:
        """Dry run: this picture would be captioned."""
        ...


class TextReport:
    """For people.

    Args:
        name_skipped: name the pictures that are skipped, too.
    """

    def __init__(self, name_skipped: bool) -> None:
        self.name_skipped = name_skipped

    def result(self, result: Result) -> None:
        if result.status == "failed":
            _tell_failure(result)
        elif result.caption:
            typer.echo(f"{result.picture}: {one_line(result.caption.text)}")
        elif self.name_skipped:
            typer.echo(f"skip     {result.picture}")

    def prompt(self, settings: RunSettings) -> None:
        typer.echo(_prompt_lines(settings))

    def would_caption(self, picture: Picture) -> None:
        typer.echo(f"caption  {picture.path}")


class JsonReport:
    """For programs: one object on a line for each picture. ASCII, so that it survives any console or pipe."""

    def result(self, result: Result) -> None:
        record: dict[str, object] = {"picture": str(result.picture), "status": result.status}
        if result.sidecar:
            record["sidecar"] = str(result.sidecar)
        if result.status == "failed":
            _tell_failure(result)
            record["error"] = result.reason
        elif caption := result.caption:
            record |= {
                "caption": caption.text,
                "finish_reason": caption.finish_reason,
                "prompt_tokens": caption.prompt_tokens,
                "tokens": caption.tokens,
                "seconds": round(caption.seconds, 3),
                "mean_logprob": caption.mean_logprob,
            }
        typer.echo(json.dumps(record))

    def prompt(self, settings: RunSettings) -> None:
        say(_prompt_lines(settings))

    def would_caption(self, picture: Picture) -> None:
        typer.echo(json.dumps({"picture": str(picture.path), "status": "would caption"}))


def tell_summary(summary: RunSummary, rates: str, *, saved: bool) -> None:
    """The figures of a run, and why it ended if that was before its end.

    Args:
        rates: pictures and tokens per second, or nothing.
        saved: whether captions were saved.
    """
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    table.add_row(str(summary.captioned), f"captioned{f', {rates}' if rates else ''}")
    table.add_row(str(summary.skipped), "skipped: they have a caption")
    table.add_row(str(summary.failed), "failed", style="red" if summary.failed else "")
    if summary.unfinished:
        table.add_row(str(summary.unfinished), "unfinished and not saved")
    console.print(table)
    if summary.problem:
        say_error(summary.problem)
    if summary.stopped:
        kept = " The captions that were done are saved; the same command goes on from there." if saved else ""
        say(f"Stopped.{kept}")


def _tell_failure(result: Result) -> None:
    name = str(result.picture)
    # Errors about a file mostly name it themselves.
    say_error(f"Failed: {result.reason if name in result.reason else f'{name}: {result.reason}'}")


def _prompt_lines(settings: RunSettings) -> str:
    system = DEFAULT_SYSTEM_PROMPT if settings.system is None else settings.system
    lines = [f"System prompt: {system}", f"Prompt: {settings.prompt}"]
    if settings.begin_with:
        lines.append(f"Captions begin with: {settings.begin_with}")
    return "\n".join(lines)

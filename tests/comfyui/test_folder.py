"""The folder node in a real ComfyUI."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support import graphs
from support.comfyui import Client, ComfyUI, Result, Server
from support.pictures import BROKEN, draw_picture, draw_pictures


def graph(path: object, **chosen: object) -> graphs.Graph:
    return {"model": graphs.load(), "folder": graphs.folder(path, **chosen)}


def told(result: Result) -> list[str]:
    """The lines that the node shows: the summary, then a failure on each."""
    assert result.error is None, result.error["exception_message"]
    (text,) = result.outputs["folder"]["text"]
    return str(text).splitlines()


def refused(result: Result) -> str:
    assert result.error is not None
    return str(result.error["exception_message"])


def states(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_200_pictures_of_which_20_are_broken(client: Client, comfy: Server) -> None:
    folder = comfy.folder / "input" / "set"
    draw_pictures(folder, 180)
    for copy in range(2):
        for name, content in BROKEN.items():
            (folder / f"{copy} {name}").write_bytes(content)
    id = client.queue(graph("set", max_tokens=30))
    seen = {len(list(folder.glob("*.txt"))) for _ in client.events(id)}
    first = client.wait(id)
    summary, *failures = told(first)
    assert summary == "180 captioned, 0 skipped, 20 failed."
    assert sorted(line.split(": ")[0] for line in failures) == sorted(
        f"{copy} {name}" for copy in range(2) for name in BROKEN
    )
    assert len(seen - {0, 180}) > 5, "caption files appear while it runs"
    before = states(folder)
    summary, *_ = told(client.run(graph("set", max_tokens=30)))
    assert summary == "0 captioned, 180 skipped, 20 failed."
    assert states(folder) == before


def test_runs_again_when_a_file_changes_and_only_then(client: Client, comfy: Server) -> None:
    folder = comfy.folder / "input" / "changing"
    pictures = draw_pictures(folder, 4)
    assert told(client.run(graph("changing"))) == ["4 captioned, 0 skipped, 0 failed."]
    same = graph("changing", existing="overwrite")
    assert told(client.run(same)) == ["4 captioned, 0 skipped, 0 failed."]
    assert "folder" in client.run(same).cached, "captions that were overwritten are no change"
    (folder / "scene 0.txt").unlink()
    assert told(client.run(same)) == ["4 captioned, 0 skipped, 0 failed."]
    assert (folder / "scene 0.txt").exists()
    draw_picture(pictures[0], 99)
    draw_picture(folder / "new.png", 98)
    assert told(client.run(same)) == ["5 captioned, 0 skipped, 0 failed."]
    pictures[0].unlink()
    assert told(client.run(same)) == ["4 captioned, 0 skipped, 0 failed."]


def test_interrupted_keeps_what_is_saved_and_goes_on(client: Client, comfy: Server) -> None:
    folder = comfy.folder / "input" / "long"
    draw_pictures(folder, 60)
    id = client.queue(graph("long"))
    for _ in client.events(id):
        if len(list(folder.glob("*.txt"))) >= 5:
            client.interrupt()
    saved = len(list(folder.glob("*.txt")))
    assert client.wait(id).interrupted
    assert 5 <= saved < 60
    assert not list(folder.glob(".*")), "nothing half written"
    assert told(client.run(graph("long"))) == [f"{60 - saved} captioned, {saved} skipped, 0 failed."]


def test_samples_for_a_first_try(client: Client, comfy: Server) -> None:
    summary, *failures = told(client.run(graph("joycaption samples")))
    assert summary.startswith("12 captioned")
    assert not failures
    assert len(list((comfy.folder / "input" / "joycaption samples").glob("*.txt"))) == 12


def test_folders_that_are_none(client: Client, comfy: Server) -> None:
    (comfy.folder / "input" / "bare").mkdir()
    assert refused(client.run(graph(""))).startswith("JoyCaption Folder: input folder: it is blank")
    assert "there is no folder" in refused(client.run(graph("missing")))
    assert "input folder: There are no pictures" in refused(client.run(graph("bare")))


def test_any_folder_while_only_this_machine_can_ask(client: Client, tmp_path: Path) -> None:
    draw_picture(tmp_path / "a.png")
    assert told(client.run(graph(tmp_path))) == ["1 captioned, 0 skipped, 0 failed."]


def test_reachable_from_outside_only_comfyuis_folders_and_those_listed(
    comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory
) -> None:
    listed = draw_picture(tmp_path_factory.mktemp("listed") / "a.png").parent
    outside = draw_picture(tmp_path_factory.mktemp("outside") / "a.png").parent
    base, lines = tmp_path_factory.mktemp("open"), f"joycaption:\n    datasets: {listed}\n"
    own = draw_picture(base / "input" / "own" / "a.png").parent
    (own / "link").symlink_to(outside)
    shutil.copy(own / "a.png", outside / "b.png")
    ways = (outside, f"../../{outside.name}", f"{own}/../../../{outside.name}", "own/link", "/")
    with Server(comfyui, base, "--listen", "0.0.0.0", model_paths=lines) as server, Client(server) as client:
        assert told(client.run(graph("own"))) == ["1 captioned, 0 skipped, 0 failed."]
        assert told(client.run(graph(listed))) == ["1 captioned, 0 skipped, 0 failed."]
        for way in ways:
            said = refused(client.run(graph(way)))
            assert said.startswith("JoyCaption Folder: input folder: "), way
            assert "joycaption:\n    datasets: " in said
        _, *failures = told(client.run(graph("own", recursive=True)))
        assert all("a link to a place that a graph may not touch" in failure for failure in failures)
        assert len(failures) == 2
    assert not list(outside.glob("*.txt"))

"""The command as a program of its own: what only a real process, a real signal or a real disk can show."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import PROGRAM, environment, program
from support.hub import REPO, LocalHub, serve
from support.pictures import draw_picture, draw_pictures

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals between processes")

CAPTION = ("caption", "--model", "demo", "--max-tokens", "6")


def test_help_loads_neither_models_nor_pictures(tmp_path: Path) -> None:
    report = tmp_path / "modules.txt"
    code = (
        "import atexit, pathlib, sys\n"
        f"atexit.register(lambda: pathlib.Path({str(report)!r}).write_text(' '.join(sys.modules)))\n"
        "from joycaption.cli import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "caption", "--help"], env=environment(), capture_output=True, text=True, check=True
    )
    assert "--begin-with" in done.stdout
    loaded = set(report.read_text().split())
    assert "joycaption.cli.caption" in loaded
    assert not loaded & {"torch", "transformers", "huggingface_hub", "PIL", "numpy"}


def test_missing_typer_is_one_friendly_sentence() -> None:
    code = "import sys; sys.modules['typer'] = None; from joycaption.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == 'The command line needs typer: pip install "joycaption[cli]"\n'


def test_console_that_knows_few_characters(tmp_path: Path) -> None:
    draw_picture(tmp_path / "\u732b \U0001f431.png")
    (tmp_path / "\u732b.jpg").write_bytes(b"")
    (tmp_path / "\u732b.png").write_bytes(b"")
    done = program(
        "caption",
        "--dry-run",
        "--prompt",
        "\u732b?",
        tmp_path,
        env=environment(PYTHONIOENCODING="cp1252"),
        encoding="cp1252",
    )
    assert done.returncode == 1
    assert "Prompt: ??" in done.stdout
    assert "? ?.png" in done.stdout
    assert "belongs to" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are Unicode")
def test_name_that_is_no_unicode(tmp_path: Path) -> None:
    picture = draw_picture(tmp_path / "a.png")
    picture.rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    done = program(*CAPTION, "--json", tmp_path)
    assert done.returncode == 0
    assert Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).read_text("utf-8")


@posix_only
def test_ctrl_c_keeps_what_is_done_and_a_second_run_does_the_rest(tmp_path: Path) -> None:
    pictures = draw_pictures(tmp_path, 40)
    command = [*PROGRAM, *CAPTION, "--batch-size", "2", str(tmp_path)]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        first = [running.stdout.readline() for _ in range(3)]
        running.send_signal(signal.SIGINT)
        rest, errors = running.stdout.readlines(), running.stderr.read()
    assert running.returncode == 130
    printed = first + rest
    saved = list(tmp_path.glob("*.txt"))
    assert 3 <= len(saved) == len(printed) < 40
    assert all(path.read_text("utf-8").strip() for path in saved)
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".txt"}
    assert re.search(rf"\b{len(saved)}  captioned", errors)
    assert "the same command goes on from there" in errors

    again = program("caption", "--dry-run", tmp_path)
    assert again.stdout.count("caption  ") == len(pictures) - len(saved)
    assert again.stdout.count("skip  ") == len(saved)


@posix_only
def test_second_ctrl_c_kills() -> None:
    code = (
        "import signal\n"
        "from joycaption.cli.interrupt import Interrupt\n"
        "with Interrupt() as interrupted:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print(interrupted(), flush=True)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert done.stdout == "True\n"
    assert "Ctrl-C again quits at once" in done.stderr


@posix_only
def test_ctrl_c_while_downloading_and_the_same_command_again(tmp_path: Path) -> None:
    presses: list[int] = []

    class PressWhenAsked(dict[str, bytes]):
        """The hub's files; the first request for the weights is answered while somebody presses Ctrl-C."""

        def __getitem__(self, name: str) -> bytes:
            if hub.seen and hub.seen[-1].path == "/cdn/model.safetensors" and not presses:
                presses.append(1)
                running.send_signal(signal.SIGINT)
            return super().__getitem__(name)

    files = {"config.json": b'{"model_type": "llava"}', "model.safetensors": bytes(range(256)) * 20_000}
    hub = LocalHub(PressWhenAsked(files))
    command = [*PROGRAM, "models", "download", REPO]
    with serve(hub):
        env = environment(HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0")
        env.pop("JOYCAPTION_MODELS", None)
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            output, errors = running.communicate()
        assert running.returncode == 130
        assert output == ""
        assert "What has arrived is kept" in errors

        again = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert (Path(again.stdout.strip()) / "model.safetensors").read_bytes() == files["model.safetensors"]


def on_small_disk(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script where ``folder`` is a disk of 32 pages of 4 KiB, which only that script sees."""
    if shutil.which("unshare") is None:
        pytest.skip("needs Linux's unshare")
    mount = f"mount -t tmpfs -o size=128k tmpfs {shlex.quote(str(folder))}"
    whole = f"set -e; {mount} || exit 77; cd {shlex.quote(str(folder))}; {script}"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", whole],
        env=environment(PROGRAM=shlex.join(PROGRAM)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"a disk of our own is not allowed here: {done.stderr.strip()}")
    return done


def test_full_disk_ends_the_run_and_keeps_what_is_saved(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "pictures", 12)
    disk = tmp_path / "disk"
    disk.mkdir()
    done = on_small_disk(
        disk,
        "cp ../pictures/* .; head -c 1M /dev/zero > filler 2>/dev/null || true; truncate -s -12288 filler;"
        f' set +e; eval "$PROGRAM {" ".join(CAPTION)} --batch-size 2 ."; echo status $?; rm filler;'
        " ls -A | grep -v png; wc -c *.txt",
    )
    assert "status 1" in done.stdout
    assert "Nothing more can be saved in" in done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    listing = done.stdout.split("status 1\n")[1].splitlines()
    saved = [line for line in listing if re.fullmatch(r"scene \d+\.txt", line)]
    assert 1 <= len(saved) <= 3
    assert listing[: len(saved)] == saved, "a temporary file was left"
    sizes = [int(line.split()[0]) for line in listing[len(saved) :]]
    assert min(sizes) > 0
    assert f"{len(saved)}  captioned" in done.stderr


def test_read_only_disk_is_said_before_the_model_is_loaded(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "pictures", 2)
    disk = tmp_path / "disk"
    disk.mkdir()
    done = on_small_disk(
        disk,
        "cp ../pictures/* .; mount -o remount,ro .; set +e;"
        ' eval "$PROGRAM caption --model no-such-model ."; echo status $?; ls -A',
    )
    assert done.stdout.splitlines() == ["status 1", "scene 0.png", "scene 1.png"]
    assert "Cannot write caption files to .: Read-only file system." in done.stderr

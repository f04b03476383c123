"""Downloads from a hub on 127.0.0.1 that speaks the real protocol; see tests/support/hub.py."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download, hf_hub_download
from huggingface_hub.utils import WeakFileLock
from support import hub as local_hub
from support.hub import COMMIT, REPO, LocalHub, Refusal, serve

from joycaption.errors import Cancelled, CheckpointError, DownloadError, ModelNotFound
from joycaption.model import locate, transfer
from joycaption.model.download import download_model, resolve_model
from joycaption.model.locate import HubModel, find_model, list_models

MIB = 1 << 20
MODEL = HubModel(REPO, revision=COMMIT)
SHARDS = {f"model-0000{n}-of-00002.safetensors": random.Random(n).randbytes(2 * MIB + n) for n in (1, 2)}
SHARD = "model-00001-of-00002.safetensors"
INDEX = {"weight_map": {"a.weight": SHARD, "b.weight": "model-00002-of-00002.safetensors"}}
WANTED = {
    "config.json": b'{"model_type": "llava"}',
    "chat_template.jinja": "{{ messages }} \N{ARTIST PALETTE}".encode(),
    "merges.txt": b"a b\n",
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
    **SHARDS,
}
UNWANTED = {
    "README.md": b"# A model",
    "pytorch_model.bin": b"pickle",
    "training/state.pt": b"pickle",
    "training/config.json": b"{}",
    "../outside.json": b"{}",
    "..\\outside.json": b"{}",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A running hub, an empty cache, and huggingface_hub set up as HF_ENDPOINT and HF_HOME would at its import."""
    with serve(LocalHub({**WANTED, **UNWANTED})) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        template = f"{running.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)  # before version 1
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache \N{ARTIST PALETTE}"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(transfer, "RETRY_SECONDS", 0)
        monkeypatch.delenv("JOYCAPTION_MODELS", raising=False)
        yield running


def blobs() -> list[Path]:
    return sorted(Path(constants.HF_HUB_CACHE).rglob("blobs/*"))


def partial_bytes() -> int:
    return sum(path.stat().st_size for path in blobs() if path.suffix == ".incomplete")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestCompleteDownload:
    def test_brings_the_files_of_the_model_and_no_others(self, hub: LocalHub) -> None:
        folder = download_model(MODEL)
        assert contents(folder) == WANTED
        assert hub.fetched() == set(WANTED)
        assert hub.sent == {name: len(content) for name, content in WANTED.items()}
        assert not partial_bytes()

    def test_other_programs_find_it_in_the_cache_without_a_network(self, hub: LocalHub) -> None:
        folder = download_model(MODEL)
        requests = len(hub.seen)
        for name in WANTED:
            found = hf_hub_download(
                REPO, name, revision=COMMIT, cache_dir=constants.HF_HUB_CACHE, local_files_only=True
            )
            assert Path(found) == folder / name
        assert len(hub.seen) == requests

    def test_is_not_repeated(self, hub: LocalHub) -> None:
        folder = resolve_model(REPO)
        requests = len(hub.seen)
        assert resolve_model(REPO) == folder == find_model(REPO)
        assert len(hub.seen) == requests
        assert download_model(MODEL) == folder
        assert hub.sent[SHARD] == len(SHARDS[SHARD])

    def test_progress_counts_up_to_all_bytes(self, hub: LocalHub) -> None:
        calls: list[tuple[int, int, str]] = []
        download_model(MODEL, progress=lambda *call: calls.append(call))
        done = [call[0] for call in calls]
        total = sum(map(len, WANTED.values()))
        assert done == sorted(done)
        assert done[0] == 0
        assert done[-1] == total
        assert {call[1] for call in calls} == {total}
        assert {call[2] for call in calls} == set(WANTED)

    def test_the_pinned_revision_is_taken_else_the_newest(self, hub: LocalHub) -> None:
        hub.newest = "f" * 40
        assert download_model(MODEL).name == COMMIT
        assert download_model(HubModel(REPO)).name == hub.newest

    def test_content_that_another_revision_brought_is_not_fetched_again(self, hub: LocalHub) -> None:
        download_model(MODEL)
        hub.commit = "b" * 40
        hub.files["config.json"] = b'{"model_type": "llava", "changed": true}'
        hub.sent.clear()
        folder = download_model(HubModel(REPO, revision=hub.commit))
        assert contents(folder) == {**WANTED, "config.json": hub.files["config.json"]}
        assert hub.sent == {"config.json": len(hub.files["config.json"])}

    def test_without_symbolic_links_no_file_is_there_twice(
        self, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError("A required privilege is not held by the client")

        monkeypatch.setattr(Path, "symlink_to", refuse)
        folder = download_model(MODEL)
        assert contents(folder) == WANTED
        assert blobs() == []
        assert find_model(REPO) == folder

    def test_the_token_goes_to_the_hub_only(self, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        download_model(MODEL)
        tokens = {(seen.host, seen.token) for seen in hub.seen}
        assert tokens == {("127.0.0.1", "Bearer hf_secret"), ("localhost", None)}


class TestBrokenConnection:
    def test_goes_on_where_it_broke(self, hub: LocalHub) -> None:
        cut = MIB + MIB // 2
        hub.cut_after[SHARD] = [cut]
        assert contents(download_model(MODEL)) == WANTED
        first, second = hub.ranges(SHARD)
        assert first == "bytes=0-"
        assert second == f"bytes={MIB}-"  # what came after the last full MiB is lost
        assert hub.sent[SHARD] == cut + len(SHARDS[SHARD]) - MIB

    def test_gives_up_when_nothing_arrives_and_the_next_call_goes_on(self, hub: LocalHub) -> None:
        hub.cut_after[SHARD] = [MIB] + [0] * transfer.ATTEMPTS
        with pytest.raises(DownloadError, match=rf"{SHARD} of {REPO} broke off.*try again to go on"):
            download_model(MODEL)
        assert partial_bytes() == MIB
        assert contents(download_model(MODEL)) == WANTED
        assert hub.sent[SHARD] == len(SHARDS[SHARD])

    def test_any_number_of_breaks_is_survived_while_something_arrives(self, hub: LocalHub) -> None:
        hub.files = {**WANTED, SHARD: random.Random(0).randbytes(8 * MIB)}
        hub.cut_after[SHARD] = [MIB] * 7
        assert contents(download_model(MODEL)) == hub.files
        assert hub.sent[SHARD] == 8 * MIB

    def test_a_busy_hub_is_asked_again(self, hub: LocalHub) -> None:
        hub.busy_answers = transfer.ATTEMPTS - 1
        assert contents(download_model(MODEL)) == WANTED

    def test_a_server_that_cannot_resume_sends_everything_again(self, hub: LocalHub) -> None:
        hub.resumable = False
        hub.cut_after[SHARD] = [MIB]
        assert contents(download_model(MODEL)) == WANTED
        assert hub.sent[SHARD] == MIB + len(SHARDS[SHARD])


class TestDamage:
    @pytest.mark.parametrize("name", [SHARD, "config.json"])
    def test_a_wrong_byte_is_noticed_and_the_file_deleted(self, hub: LocalHub, name: str) -> None:
        hub.damaged = {name}
        with pytest.raises(DownloadError, match=rf"{name} of {REPO} arrived damaged"):
            download_model(MODEL)
        assert not partial_bytes()
        assert WANTED[name] not in [path.read_bytes() for path in blobs()]
        assert find_model(REPO) is None
        hub.damaged = set()
        assert contents(download_model(MODEL)) == WANTED

    def test_a_file_that_a_crash_cut_short_is_replaced(self, hub: LocalHub) -> None:
        folder = download_model(MODEL)
        with (folder / SHARD).open("r+b") as file:
            file.truncate(MIB)
        assert contents(download_model(MODEL)) == WANTED

    def test_a_hub_without_checksums_is_not_trusted(self, hub: LocalHub) -> None:
        hub.states_checksums = False
        with pytest.raises(DownloadError, match=r"states no checksum of config\.json"):
            download_model(MODEL)
        assert not hub.fetched()


class TestStopping:
    def test_stops_within_a_mib_and_goes_on_later(self, hub: LocalHub) -> None:
        received: list[int] = []
        with pytest.raises(Cancelled, match="kept"):
            download_model(
                MODEL,
                progress=lambda done, total, name: received.append(done),
                should_stop=lambda: bool(received) and received[-1] > MIB,
            )
        kept = partial_bytes()
        assert MIB <= kept <= 2 * MIB
        hub.seen.clear()
        resumed: list[int] = []
        folder = download_model(MODEL, progress=lambda done, total, name: resumed.append(done))
        assert contents(folder) == WANTED
        assert hub.ranges(SHARD) == [f"bytes={kept}-"]
        assert resumed[0] > MIB

    def test_stopped_before_it_begins(self, hub: LocalHub) -> None:
        with pytest.raises(Cancelled):
            download_model(MODEL, should_stop=lambda: True)
        assert not hub.fetched()

    @pytest.mark.parametrize("error", [BrokenPipeError("no reader"), KeyboardInterrupt(), TimeoutError("slow")])
    def test_what_a_callback_raises_comes_out_as_it_is(self, hub: LocalHub, error: BaseException) -> None:
        def fail(done: int, total: int, name: str) -> None:
            if done > MIB:
                raise error

        with pytest.raises(type(error)) as caught:
            download_model(MODEL, progress=fail)
        assert caught.value is error
        assert contents(download_model(MODEL)) == WANTED


class TestRoomOnTheDisk:
    def free(self, monkeypatch: pytest.MonkeyPatch, bytes_free: int) -> None:
        usage = shutil.disk_usage(Path.cwd())._replace(free=bytes_free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    def test_too_little_is_said_before_anything_is_fetched(
        self, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.free(monkeypatch, 10**9 + sum(map(len, WANTED.values())) - 1)
        with pytest.raises(DownloadError, match=r"1\.0 GB are free.*HF_HOME"):
            download_model(MODEL)
        assert not hub.fetched()

    def test_just_enough(self, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free(monkeypatch, 10**9 + sum(map(len, WANTED.values())))
        download_model(MODEL)

    def test_what_is_there_already_needs_no_room(self, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.cut_after[SHARD] = [MIB] + [0] * transfer.ATTEMPTS
        with pytest.raises(DownloadError):
            download_model(MODEL)
        self.free(monkeypatch, 10**9 + sum(map(len, SHARDS.values())) - MIB)
        download_model(MODEL)
        self.free(monkeypatch, 0)
        download_model(MODEL)

    def test_a_disk_that_takes_no_more_is_an_error_that_keeps_what_arrived(self, hub: LocalHub) -> None:
        resource = pytest.importorskip("resource", reason="limits the size of files on Linux and macOS only")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB + MIB // 2, limits[1]))
        try:
            with pytest.raises(DownloadError, match=r"cannot be written: File too large.*kept"):
                download_model(MODEL)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert partial_bytes() == MIB + MIB // 2
        assert contents(download_model(MODEL)) == WANTED

    def test_a_cache_that_is_no_folder(self, hub: LocalHub) -> None:
        Path(constants.HF_HUB_CACHE).write_text("a file")
        with pytest.raises(DownloadError, match="cannot be written"):
            resolve_model(REPO)


class TestOutOfReach:
    @pytest.mark.parametrize(
        ("refusal", "sentence"),
        [
            (local_hub.NO_SUCH_REPO, "has no such model, or it is private"),
            (local_hub.PRIVATE_OR_MISSING, "has no such model, or it is private"),
            (local_hub.NO_SUCH_REVISION, "does not have this revision"),
            (local_hub.GATED, "accept its terms at .*painters/small-llava first"),
            (local_hub.BAD_TOKEN, "does not accept your access token"),
            (local_hub.BUSY, "answered with HTTP status 503"),
        ],
    )
    def test_a_refused_listing_is_explained(self, hub: LocalHub, refusal: Refusal, sentence: str) -> None:
        hub.refuse_listing = refusal
        with pytest.raises(ModelNotFound, match=rf"^{REPO} could not be downloaded: .*{sentence}"):
            download_model(MODEL)

    def test_gated_files_behind_a_public_listing(self, hub: LocalHub) -> None:
        hub.refuse_files = local_hub.GATED
        with pytest.raises(ModelNotFound, match="accept its terms at"):
            download_model(MODEL)
        assert len(hub.fetched()) == 1

    def test_a_refused_file_is_asked_for_once(self, hub: LocalHub) -> None:
        hub.refuse_files = Refusal(403)
        with pytest.raises(DownloadError, match="answered with HTTP status 403"):
            download_model(MODEL)
        assert len([seen for seen in hub.seen if "/resolve/" in seen.path]) == 1

    def test_no_network_names_model_places_and_ways_out(self, hub: LocalHub, tmp_path: Path) -> None:
        with serve(LocalHub({})) as gone:
            constants.ENDPOINT = gone.endpoint  # the fixture puts the old value back
        with pytest.raises(ModelNotFound) as caught:
            resolve_model("beta-one", folders=[tmp_path / "LLM"])
        message = str(caught.value)
        for part in ("beta-one", "cannot be reached", str(tmp_path / "LLM"), constants.HF_HUB_CACHE, "folder", "demo"):
            assert part in message

    def test_downloads_can_be_forbidden(self, hub: LocalHub) -> None:
        with pytest.raises(ModelNotFound, match="Downloading was not allowed"):
            resolve_model(REPO, allow_download=False)
        assert not hub.seen

    def test_an_unknown_name_lists_what_is_allowed(self, hub: LocalHub) -> None:
        with pytest.raises(ModelNotFound, match=r'"beta-one", "demo", the id of a hub repository.*or a folder'):
            resolve_model("beta-two")
        assert not hub.seen

    def test_an_installation_without_the_demo(
        self, hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locate, "DEMO_FOLDER", tmp_path / "missing")
        with pytest.raises(ModelNotFound, match="install it again"):
            resolve_model("demo")

    @pytest.mark.parametrize(("file", "reason"), [("model.bin", "pickled"), ("model-Q4.gguf", "llama.cpp")])
    def test_a_repository_without_safetensors_is_refused(self, hub: LocalHub, file: str, reason: str) -> None:
        hub.files = {"config.json": b"{}", file: b"weights"}
        with pytest.raises(CheckpointError, match=reason):
            download_model(MODEL)
        assert not hub.fetched()

    def test_another_program_that_downloads_it_is_not_disturbed(self, hub: LocalHub) -> None:
        download_model(MODEL)
        digest = (find_model(REPO) or Path()).joinpath(SHARD).resolve().name
        shutil.rmtree(Path(constants.HF_HUB_CACHE, f"models--{REPO.replace('/', '--')}"))
        with (
            WeakFileLock(next(Path(constants.HF_HUB_CACHE).rglob(f".locks/*/{digest}.lock"))),
            pytest.raises(DownloadError, match=f"Another program is downloading {SHARD}"),
        ):
            download_model(MODEL)


class TestFolders:
    def test_a_folder_that_holds_the_model_is_used_as_it_is(self, hub: LocalHub, tmp_path: Path) -> None:
        folder = tmp_path / "models" / "painters--small-llava"
        folder.mkdir(parents=True)
        for name, content in WANTED.items():
            folder.joinpath(name).write_bytes(content)
        assert resolve_model(REPO, folders=[tmp_path / "models"]) == folder
        assert not hub.seen

    def test_a_stopped_download_is_listed_as_incomplete(self, hub: LocalHub) -> None:
        hub.cut_after[SHARD] = [MIB] + [0] * transfer.ATTEMPTS
        with pytest.raises(DownloadError):
            download_model(MODEL)
        (found,) = [model for model in list_models() if model.name == REPO]
        assert found.kind == "incomplete"
        assert SHARD in found.note
        download_model(MODEL)
        (found,) = [model for model in list_models() if model.name == REPO]
        assert (found.kind, found.note, found.bytes) == ("safetensors", "", sum(map(len, WANTED.values())))


PROGRAM = """
import sys
from joycaption.errors import ModelNotFound
from joycaption.model.download import resolve_model
try:
    print(resolve_model(sys.argv[1]))
except ModelNotFound as error:
    print(error)
"""


def run_program(tmp_path: Path, **variables: str) -> str:
    """What a fresh interpreter prints: the variables are read when huggingface_hub is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "XDG_"))}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, REPO],
        env={**kept, "HF_HOME": str(tmp_path / "home"), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_variables_of_the_hub_are_honoured(tmp_path: Path) -> None:
    hub = LocalHub({**WANTED, **UNWANTED})
    with serve(hub):
        offline = run_program(tmp_path, HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="1")
        assert "HF_HUB_OFFLINE forbids it" in offline
        assert not hub.seen
        folder = Path(run_program(tmp_path, HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_secret"))
    assert contents(folder) == WANTED
    assert tmp_path / "home" / "hub" in folder.parents
    assert hub.seen[0].token == "Bearer hf_secret"
    assert Path(run_program(tmp_path, HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="1")) == folder

"""The test Hub against the clients as they are installed, each in a process of its own.

What passes here is the ground that the upload tests stand on: a fault in the server would look
there like a fault in the upload.
"""

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import TOKEN, USER, HubServer

Run = Callable[..., Any]

BERT = """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ka", "##ta", "##to"]
    wordpiece = models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    backend = Tokenizer(wordpiece)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", mask_token="[MASK]"
    )
    shape = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    model = BertModel(BertConfig(vocab_size=len(words), **shape))
    model.push_to_hub("me/tiny")
    tokenizer.push_to_hub("me/tiny")
"""
EMBED = """
    model.eval()
    with torch.no_grad():
        state = model(**tokenizer("kata kato x", return_tensors="pt")).last_hidden_state
    print(json.dumps([tokenizer("kata kato x")["input_ids"], state.flatten().tolist()]))
"""
FOLDER = """
    import sys
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo("me/data", repo_type="dataset", exist_ok=True)
    api.upload_folder(repo_id="me/data", repo_type="dataset", folder_path=sys.argv[1])
"""
CARD = """---
license: cc-by-4.0
language:
- eo
- 'no'
configs:
- config_name: pairs
  data_files:
  - split: train
    path: pairs/train.parquet
- config_name: text
  data_files:
  - split: train
    path: text/train-*.parquet
  - split: test
    path: text/test.parquet
---
# Words
"""


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A Hub that must not have been asked for anything it cannot do."""
    with HubServer() as server:
        yield server
        assert server.unimplemented == []


@pytest.fixture
def run(hub: HubServer, tmp_path: Path) -> Run:
    """Runs a script in a new process with an empty cache; returns what it prints as JSON."""
    count = iter(range(100))

    def start(script: str, *args: object, fails: bool = False) -> Any:
        home = tmp_path / f"home-{next(count)}"
        code = "import json\n" + textwrap.dedent(script)
        command = [sys.executable, "-c", code, *map(str, args)]
        done = subprocess.run(
            command, env=hub.env(home), capture_output=True, text=True, timeout=60
        )
        assert bool(done.returncode) is fails, done.stderr
        return done.stderr if fails else json.loads(done.stdout or "null")

    return start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of two configurations as it lies on disk before a push."""
    root = tmp_path / "data"
    tables = {
        "pairs/train.parquet": {"word": ["kato"], "translation": ["cat"]},
        "text/train-0.parquet": {"text": ["unu", "du"]},
        "text/train-1.parquet": {"text": ["tri"]},
        "text/test.parquet": {"text": ["kvar"]},
    }
    for path, columns in tables.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), root / path)
    (root / "README.md").write_text(CARD)
    return root


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def ask(hub: HubServer, method: str, path: str, **headers: str) -> tuple[int, bytes, Any]:
    connection = HTTPConnection("127.0.0.1", int(hub.url.rsplit(":", 1)[1]), timeout=5)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


def test_model_and_tokenizer_come_back_in_another_process(hub: HubServer, run: Run) -> None:
    before = run(textwrap.dedent(BERT) + textwrap.dedent(EMBED))
    load = """
        import torch
        from transformers import AutoModel, AutoTokenizer

        model = AutoModel.from_pretrained("me/tiny")
        tokenizer = AutoTokenizer.from_pretrained("me/tiny")
    """
    after = run(textwrap.dedent(load) + textwrap.dedent(EMBED))
    assert after[0] == before[0] == [5, 6, 5, 7, 1]
    assert after[1] == pytest.approx(before[1])
    files = hub.files("me/tiny")
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(files)
    # Weights went by LFS, as the real Hub demands.
    assert any(request.method == "PUT" for request in hub.requests)


def test_folder_dataset_loads_by_configuration(hub: HubServer, run: Run, folder: Path) -> None:
    run(FOLDER, folder)
    held = hub.files("me/data", repo_type="dataset")
    assert held.pop(".gitattributes")
    assert held == contents(folder)
    got = run("""
        import socket

        lookup, hosts = socket.getaddrinfo, set()
        socket.getaddrinfo = lambda host, *rest, **kw: hosts.add(host) or lookup(host, *rest, **kw)
        from datasets import get_dataset_config_names, load_dataset

        names = get_dataset_config_names("me/data")
        pairs = load_dataset("me/data", "pairs")["train"].to_list()
        text = load_dataset("me/data", "text")
        streamed = load_dataset("me/data", "text", split="train", streaming=True)
        splits = {split: list(rows["text"]) for split, rows in text.items()}
        print(json.dumps([names, pairs, splits, list(streamed), sorted(hosts)]))
    """)
    # The second host is a name that `datasets` makes up of HF_ENDPOINT and that leads nowhere.
    assert set(got.pop()) <= {"127.0.0.1", "datasets-server.127.0.0.1"}
    assert got == [
        ["pairs", "text"],
        [{"word": "kato", "translation": "cat"}],
        {"train": ["unu", "du", "tri"], "test": ["kvar"]},
        [{"text": "unu"}, {"text": "du"}, {"text": "tri"}],
    ]


def test_dataset_object_pushes_two_configurations(hub: HubServer, run: Run) -> None:
    run("""
        from datasets import Dataset, DatasetDict

        Dataset.from_dict({"x": [1, 2]}).push_to_hub("me/numbers", "small")
        splits = {"train": Dataset.from_dict({"x": [3]}), "test": Dataset.from_dict({"x": [4]})}
        DatasetDict(splits).push_to_hub("me/numbers", "split")
    """)
    got = run("""
        from datasets import load_dataset

        small = load_dataset("me/numbers", "small", split="train")["x"]
        print(json.dumps([list(small), list(load_dataset("me/numbers", "split")["test"]["x"])]))
    """)
    assert got == [[1, 2], [4]]


def test_revisions_keep_what_a_later_commit_deletes(hub: HubServer, run: Run) -> None:
    got = run("""
        from huggingface_hub import CommitOperationDelete, HfApi, hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

        api = HfApi()
        url = api.create_repo("me/m")
        first = api.upload_file(repo_id="me/m", path_in_repo="a/b.txt", path_or_fileobj=b"one")
        api.create_tag("me/m", tag="v1")
        api.create_tag("me/m", tag="v1", exist_ok=True)
        api.upload_file(repo_id="me/m", path_in_repo="w.safetensors", path_or_fileobj=b"two")
        api.upload_file(repo_id="me/m", path_in_repo="c/d/e.txt", path_or_fileobj=b"three")
        gone = [CommitOperationDelete("a/b.txt"), CommitOperationDelete("c/")]
        api.create_commit("me/m", gone, commit_message="clean")

        def error(function, *args, **kwargs):
            try:
                function(*args, **kwargs)
            except Exception as caught:
                return type(caught).__name__

        print(json.dumps({
            "user": api.whoami()["name"],
            "files": api.list_repo_files("me/m"),
            "old": api.list_repo_files("me/m", revision="v1"),
            "sha": api.model_info("me/m", revision="v1").sha == first.oid,
            "tags": [tag.name for tag in api.list_repo_refs("me/m").tags],
            "text": [
                open(hf_hub_download("me/m", "a/b.txt", revision=revision)).read()
                for revision in ("v1", first.oid)
            ],
            "lfs": api.get_paths_info("me/m", ["w.safetensors"])[0].lfs.size,
            "errors": [
                error(hf_hub_download, "me/m", "a/b.txt"),
                error(hf_hub_download, "me/m", "a/b.txt", revision="v2"),
                error(api.model_info, "me/none"),
                error(api.create_repo, "me/m"),
                error(api.delete_file, "a/b.txt", "me/m"),
                error(api.upload_file, repo_id="me/m", path_in_repo="x", path_or_fileobj=b"x",
                      parent_commit=first.oid),
            ],
        }))
    """)
    assert got == {
        "user": USER,
        "files": [".gitattributes", "w.safetensors"],
        "old": [".gitattributes", "a/b.txt"],
        "sha": True,
        "tags": ["v1"],
        "text": ["one", "one"],
        "lfs": 3,
        "errors": [
            "RemoteEntryNotFoundError",
            "RevisionNotFoundError",
            "RepositoryNotFoundError",
            "HfHubHTTPError",
            "RemoteEntryNotFoundError",
            "HfHubHTTPError",
        ],
    }


def test_cards_are_validated(hub: HubServer, run: Run) -> None:
    got = run("""
        from huggingface_hub import DatasetCard, HfApi, ModelCard

        api = HfApi()
        api.create_repo("me/m")
        api.create_repo("me/d", repo_type="dataset")
        ModelCard("---\\nlicense: mit\\ntags: [x]\\n---\\n# Model").push_to_hub("me/m")
        card = DatasetCard("---\\nlanguage: [en, 'no']\\n---\\n# Data")
        card.validate()
        card.push_to_hub("me/d")
        try:
            DatasetCard("---\\nlanguage: [en, no]\\n---\\n# Data").push_to_hub("me/d")
        except ValueError as caught:
            refused = str(caught)
        tags = api.model_info("me/m").tags
        print(json.dumps([tags, api.dataset_info("me/d").card_data.language, refused]))
    """)
    assert got[:2] == [["x"], ["en", "no"]]
    assert "must be a string" in got[2]


def test_interrupted_push_leaves_nothing_and_can_be_repeated(
    hub: HubServer, run: Run, folder: Path
) -> None:
    hub.fail_next("PUT", "/lfs/", status=403)
    assert "Error while uploading" in run(FOLDER, folder, fails=True)
    hub.fail_next("POST", "/commit/", status=None)
    assert "RemoteProtocolError" in run(FOLDER, folder, fails=True)
    hub.fail_next("POST", "/commit/", status=500)
    assert "HfHubHTTPError" in run(FOLDER, folder, fails=True)
    assert set(hub.files("me/data", repo_type="dataset")) == {".gitattributes"}

    puts = sum(request.method == "PUT" for request in hub.requests)
    run(FOLDER, folder)
    held = hub.files("me/data", repo_type="dataset")
    assert {path: held[path] for path in contents(folder)} == contents(folder)
    # LFS objects that arrived before the interruption are not sent again.
    assert puts == sum(request.method == "PUT" for request in hub.requests)


def test_client_rides_over_a_hiccup(hub: HubServer, run: Run, folder: Path) -> None:
    hub.fail_next("PUT", "/lfs/", status=None)
    run(FOLDER, folder)
    assert set(contents(folder)) < set(hub.files("me/data", repo_type="dataset"))


def test_ranges(hub: HubServer, run: Run) -> None:
    run("""
        from huggingface_hub import HfApi

        HfApi().create_repo("me/m")
        HfApi().upload_file(repo_id="me/m", path_in_repo="x.bin", path_or_fileobj=b"0123456789")
    """)
    path = "/me/m/resolve/main/x.bin"
    for asked, status, body, told in [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("", 200, b"0123456789", None),
    ]:
        got = ask(hub, "GET", path, Range=asked)
        assert (*got[:2], got[2]["Content-Range"]) == (status, body, told)
    status, body, headers = ask(hub, "HEAD", path)
    assert (status, body, headers["X-Linked-Size"]) == (200, b"", "10")


def test_token_is_needed_to_write_and_never_logged(hub: HubServer, run: Run) -> None:
    refused = run(
        """
        from huggingface_hub import HfApi

        HfApi().create_repo("me/m", private=True)
        print(HfApi().model_info("me/m").private)
        HfApi(token="hf_wrong").create_repo("me/other")
        """,
        fails=True,
    )
    assert "401" in refused
    assert ask(hub, "GET", "/api/models/me/m")[0] == 401
    assert [request.authorized for request in hub.requests] == [True, True, True, False]
    assert TOKEN not in repr(hub.requests)
    assert "hf_wrong" not in repr(hub.requests)


def test_gaps_show() -> None:
    with HubServer() as hub:
        status, body, _ = ask(hub, "GET", "/api/spaces/me/x")
        assert status == 501
        assert b"/api/spaces/me/x" in body
        status, body, _ = ask(hub, "DELETE", "/api/models/me/x/tag/v1?force=1")
        assert status == 501
        assert hub.unimplemented == [
            "GET /api/spaces/me/x",
            "DELETE /api/models/me/x/tag/v1?force=1",
        ]


def test_closes_at_once_under_open_connections() -> None:
    with HubServer() as hub:
        assert hub.url.startswith("http://127.0.0.1:")
        hub.fail_next("GET", "/api/", status=None)
        with pytest.raises(RemoteDisconnected):
            ask(hub, "GET", "/api/whoami-v2")
        idle = HTTPConnection("127.0.0.1", int(hub.url.rsplit(":", 1)[1]))
        idle.connect()
        start = time.monotonic()
    assert time.monotonic() - start < 1
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        ask(hub, "GET", "/")


def test_a_forgotten_server_does_not_keep_the_interpreter() -> None:
    code = "from hub_server import HubServer; HubServer().__enter__()"
    here = Path(__file__).parent
    subprocess.run([sys.executable, "-c", code], cwd=here, timeout=10, check=True)

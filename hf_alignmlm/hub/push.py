"""Pushes: a run or a built dataset goes to the Hub with its card, in one commit."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.utils import get_session, validate_repo_id
from transformers import TrainingArguments

from hf_alignmlm.arguments import one_line_errors
from hf_alignmlm.files import exclusive, read_record
from hf_alignmlm.hub.cards import BUILD_FILE, CARD_FILE, card_of, read_builds, without_folders
from hf_alignmlm.runs import RESULTS_FILE

# What a reader of a run needs; no optimizer, no pickle, no checkpoints on the way.
RELEASED = (
    *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("dictionary.json", "language.json", RESULTS_FILE),
)

TIMEOUT = 100  # seconds without an answer


def _contents(folder: Path) -> tuple[str, dict[str, bytes | Path]]:
    """The type of repository that a folder makes, and its files there by name, without the card."""
    if builds := read_builds(folder):
        files = [path for name in builds for path in sorted((folder / name).iterdir())]
        published = [f for f in files if f.suffix == ".parquet" or f.name == BUILD_FILE]
        return "dataset", {f.relative_to(folder).as_posix(): f for f in published}
    results = read_record(folder / RESULTS_FILE)
    results["arguments"] = without_folders(results.get("arguments", {}))
    shards = [
        *folder.glob("model-*-of-*.safetensors"),
        *folder.glob("model.safetensors.index.json"),
    ]
    if not shards and not (folder / "model.safetensors").exists():
        raise ValueError(f"{folder} holds no weights (model.safetensors): name a finished run")
    files = [*(folder / name for name in RELEASED), *sorted(shards)]
    rendered = {RESULTS_FILE: json.dumps(results, indent=2).encode()}
    return "model", {f.name: f for f in files if f.exists()} | rendered


def push(
    folder: str | Path,
    repo_id: str,
    *,
    transfer: str | Path | None = None,
    private: bool | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> None:
    """Upload a finished run or a built dataset and its card in one commit, so all of it or nothing.

    Folders of this machine stay untold. `dry_run` lists the files with their sizes. A push can be
    repeated: what the Hub has is not sent again. `ValueError` in one line for one that failed.
    """
    validate_repo_id(repo_id)
    folder, api = Path(folder), HfApi(token=token)
    # The card first: it says what is wrong with a folder that holds neither.
    card = card_of(folder, repo_id=repo_id, transfer=transfer)
    repo_type, contents = _contents(folder)
    contents[CARD_FILE] = str(card).encode()
    for name, content in contents.items():
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        print(f"{size:>12,} bytes  {name}")
    if dry_run:
        print(f"{len(contents)} files would go to {repo_type} {repo_id}")
        return
    # Not `upload_folder`: the card and the results are texts that differ from the folder's files.
    files = [CommitOperationAdd(name, content) for name, content in contents.items()]
    message = "Upload with hf_alignmlm"
    # The client's own waits have no end.
    get_session().timeout = TIMEOUT
    with exclusive(folder):
        try:
            url = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
            commit = api.create_commit(
                url.repo_id, files, repo_type=repo_type, commit_message=message
            )
        except Exception as error:  # of the client, of xet, or of what a proxy answers
            cause = str(error)
            for secret in f"{token or ''} {get_token() or ''}".split():
                cause = cause.replace(secret, "(token)")
            raise ValueError(
                f"the push to {repo_id} failed and left {folder} as it was; repeat it: {cause}"
            ) from None
    print(f"Pushed to {commit.repo_url}")


def push_run(args: TrainingArguments) -> None:
    """Push a run as the library's own options say: `--hub_model_id` and those beside it."""
    name = args.hub_model_id or Path(str(args.output_dir)).name
    push(str(args.output_dir), name, private=args.hub_private_repo, token=args.hub_token)


def push_main(argv: Sequence[str] | None = None) -> None:
    """`alignmlm push FOLDER --repo_id me/name`: uploads a finished run or a built dataset."""
    parser = argparse.ArgumentParser(prog="alignmlm push", description="Upload to the Hub.")
    parser.add_argument("folder", help="the folder of a finished run or of a built dataset")
    parser.add_argument("--repo_id", required=True, help="where to, as me/name")
    parser.add_argument("--private", action="store_true", default=None, help="a private repository")
    parser.add_argument("--dry_run", action="store_true", help="list files and sizes only")
    parser.add_argument("--transfer", help="a folder of task runs, for the run's transfer results")
    with one_line_errors():
        push(**vars(parser.parse_args(argv)))

"""Cards: a run or a dataset tells of itself what a reader needs, and goes to the Hub with it.

python -m hf_alignmlm.cards write RUN
python -m hf_alignmlm.cards push RUN --repo_id me/model [--transfer FOLDER] [--dry_run]
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitOperationAdd,
    DatasetCard,
    DatasetCardData,
    EvalResult,
    HfApi,
    ModelCard,
    ModelCardData,
)
from huggingface_hub.errors import HfHubHTTPError
from transformers import TrainingArguments

from hf_alignmlm import __version__, minienglish
from hf_alignmlm.arguments import one_line_errors
from hf_alignmlm.files import read_json, write_text
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.report import TASK_NAMES, markdown_table, read_results
from hf_alignmlm.runs import RESULTS_FILE

CARD_FILE = "README.md"


# What a built dataset keeps of itself, in the folder of each configuration.
BUILD_FILE = "build.json"


# What a reader needs; no optimizer, no pickle, no checkpoints on the way.
RELEASED = (
    *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("dictionary.json", "language.json", RESULTS_FILE),
)


NOT_RELEASED = (
    "*This card was rendered from local files; what it describes is not on the Hub yet.*\n\n"
)


ORDERS = {"inv": "the words of a sentence reversed", "perm": "the words of a sentence shuffled"}


OBJECTIVE_NAMES = {
    "mlm": "masked language modelling",
    "xlm": "masked and translation language modelling (XLM)",
    "dict-mlm": "masked language modelling with dictionary swaps (DICT-MLM)",
    "align-mlm": "masked language modelling with embedding alignment (ALIGN-MLM)",
}


def _fill(template: str, **values: Any) -> str:
    path = Path(__file__).parent / "templates" / f"{template}.md"
    return path.read_text(encoding="utf-8").format(**values)


def describe_language(language: SyntheticLanguage) -> str:
    """What a language is, in a sentence."""
    parts = []
    if language.mapped_share:
        share = (
            "all words" if language.mapped_share == 1 else f"{language.mapped_share:.0%} of words"
        )
        parts.append(f"{share} in a script of their own")
    for order in language.orders:
        superstrate, _, best = order.removeprefix("syn-").partition("-")
        drawn = "most likely order" if best else "order, drawn for each sentence,"
        parts.append(
            ORDERS.get(order, f"nouns' and verbs' dependents in the {drawn} of `{superstrate}`")
        )
    return f"`{language.name}` is English with {'; '.join(parts)} (seed {language.seed})."


def _example(language: SyntheticLanguage) -> str:
    sentence = minienglish.sentence(5)
    derived = language.derive(sentence.words, tree=sentence, index=5)
    return f"- original: {' '.join(sentence.words)}\n- derived: {' '.join(derived)}"


def without_folders(value: Any) -> Any:
    """What is published of an option: local files and folders by their names alone."""
    if isinstance(value, dict):
        return {name: without_folders(one) for name, one in value.items()}
    if isinstance(value, list):
        return [without_folders(one) for one in value]
    local = isinstance(value, str) and (os.path.isabs(value) or os.path.exists(value))
    return Path(value).name if local else value


def corpus_name(arguments: dict[str, Any]) -> str:
    """What a run was trained on, without the paths of the machine that trained it."""
    if files := arguments.get("train_file"):
        files = [files] if isinstance(files, str) else files
        return ", ".join(f"`{Path(path).name}`" for path in files)
    for name in ("dataset", "source"):
        if arguments.get(f"{name}_name"):
            config = arguments.get(f"{name}_config_name") or "default"
            return f"`{without_folders(arguments[f'{name}_name'])}` ({config})"
    return "the embedded corpus, a seeded grammar of English"


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _eval_results(tasks: Sequence[dict[str, Any]]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=CATEGORIES[task["task"]][0],
            task_name=TASK_NAMES[task["task"]],
            dataset_type=corpus_name(task["arguments"]).strip("`"),
            dataset_name=f"{TASK_NAMES[task['task']]}, {task['language']}",
            metric_type=f"{task['metric']}_{name}",
            metric_name=f"{task['metric']}, {label}",
            metric_value=round(task[name], 2),
        )
        for task in tasks
        for name, label in (
            ("source", "original language"),
            ("bz", "zero-shot"),
            ("bs", "supervised"),
        )
        if task.get(name) is not None
    ]


LANGUAGE_TYPES = (
    "Token types tell the languages apart: give `token_type_ids` of 0 to original text and of 1 to "
    "derived text.\n\n"
)


MEASURES = {
    "masked-LM loss, original": ("eval_original_mlm_loss", 3),
    "masked-LM loss, derived": ("eval_derived_mlm_loss", 3),
    "perplexity, original": ("eval_original_perplexity", 1),
    "perplexity, derived": ("eval_derived_perplexity", 1),
    "mean cosine of seen pairs (the alignment loss is its negative)": (
        "alignment_cosine_true_seen",
        3,
    ),
    "mean cosine of random pairs": ("alignment_cosine_random", 3),
    "alignment P@1, all pairs": ("alignment_p1", 1),
    "alignment P@1, seen pairs": ("alignment_p1_seen", 1),
    "alignment P@1, held-out pairs": ("alignment_p1_heldout", 1),
    "alignment P@1 by CSLS": ("alignment_csls_p1", 1),
}


SCORES = ("source", "bz", "bs", "transfer_gap")


def _score_table(tasks: Sequence[dict[str, Any]]) -> str:
    header = ["task", "metric", "source", "zero-shot BZ", "supervised BS", "gap", "seeds"]
    rows = [
        [
            TASK_NAMES[t["task"]],
            t["metric"],
            *(_number(t.get(n)) for n in SCORES),
            f"{len(t['seeds'])}",
        ]
        for t in tasks
    ]
    return markdown_table(header, rows)


def model_card(
    run: str | Path, *, repo_id: str | None = None, transfer: str | Path | None = None
) -> ModelCard:
    """The card of a run, from its own files; `transfer` is a folder of a pre-training's task runs.

    Raises `ValueError` or `FileNotFoundError` for a folder that holds no finished run.
    """
    run = Path(run)
    results = read_json(run / RESULTS_FILE)
    if "task" in results:
        return _task_card(run, results, repo_id)
    if "train_steps" not in results:
        raise ValueError(f"{run / RESULTS_FILE} is of no run of ours")
    arguments, config = results["arguments"], read_json(run / "config.json")
    tasks = [
        result
        for result in (read_results(transfer) if transfer else [])
        if result.get("task") in TASK_NAMES
        and Path(result["arguments"]["model_name_or_path"]).resolve() == run.resolve()
    ]
    name = repo_id or run.name
    data = ModelCardData(
        language="en",
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["hf_alignmlm", "multilingual", results["objective"], "arxiv:2211.08547"],
        model_name=name,
        eval_results=_eval_results(tasks) or None,
    )
    measures = [[label, _number(results.get(k), digits)] for label, (k, digits) in MEASURES.items()]
    language = SyntheticLanguage.from_pretrained(run)
    body = _fill(
        "model",
        name=name,
        note="" if repo_id else NOT_RELEASED,
        parameters=_number(results["parameters"] / 1e6),
        objective=OBJECTIVE_NAMES[results["objective"]],
        language=results["language"],
        types=LANGUAGE_TYPES if config.get("language_embeddings") else "",
        version=__version__,
        definition=f"{describe_language(language)}\n\n{_example(language)}",
        corpus=corpus_name(arguments),
        tokens=f"{results['train_tokens']:,}",
        steps=f"{results['train_steps']:,}",
        seed=results["seed"],
        length=config["max_position_embeddings"],
        padding=_number(results.get("padding_share"), 2),
        weight=config["alignment_loss_weight"],
        fraction=arguments["dictionary_fraction"],
        results_file=RESULTS_FILE,
        measures=markdown_table(["measure", "value"], measures),
        transfer=f"## Transfer\n\n{_score_table(tasks)}\n" if tasks else "",
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")


KINDS = {
    "corpus": "a row a sentence, `original` and `derived`, words apart by spaces",
    "pos": "parts of speech, `tokens` and `upos`, with `derived_tokens` and `derived_upos` beside",
    "ner": "entities, `tokens` and `ner_tags`, with `derived_tokens` and `derived_ner_tags` beside",
    "nli": "inference, `premise`, `hypothesis` and `label`, with `derived_premise` and "
    "`derived_hypothesis` beside",
}


CATEGORIES = {
    "corpus": ["fill-mask", "translation"],
    "pos": ["token-classification"],
    "ner": ["token-classification"],
    "nli": ["text-classification"],
}


def _task_card(run: Path, results: dict[str, Any], repo_id: str | None) -> ModelCard:
    name, arguments, task = repo_id or run.name, results["arguments"], results["task"]
    nli = task == "nli"
    data = ModelCardData(
        language="en",
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag=CATEGORIES[task][0],
        tags=["hf_alignmlm", "multilingual", "arxiv:2211.08547"],
        model_name=name,
        eval_results=_eval_results([results]),
    )
    language = SyntheticLanguage.from_pretrained(run)
    body = _fill(
        "task",
        name=name,
        note="" if repo_id else NOT_RELEASED,
        task=TASK_NAMES[task],
        language=language.name,
        auto=f"AutoModelFor{'Sequence' if nli else 'Token'}Classification",
        definition=f"{describe_language(language)}\n\n{_example(language)}",
        base=Path(arguments["model_name_or_path"]).name,
        objective=OBJECTIVE_NAMES.get(results.get("objective") or "", "objective unknown"),
        corpus=corpus_name(arguments),
        rows=f"{results['n_train']:,}",
        seed=results["seeds"][0],
        seeds=len(results["seeds"]),
        results_file=RESULTS_FILE,
        scores=_score_table([results]),
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")


def read_builds(folder: str | Path) -> dict[str, Any]:
    """What lies built in a folder, by configuration."""
    return {p.parent.name: read_json(p) for p in sorted(Path(folder).glob(f"[!.]*/{BUILD_FILE}"))}


def dataset_card(builds: dict[str, Any], name: str, *, released: bool = False) -> DatasetCard:
    """The card of a built dataset, whose `configs` let `load_dataset` find its files."""
    if not builds:
        return DatasetCard("")
    first = next(iter(builds.values()))
    kind, options = first["kind"], first["options"]
    data = DatasetCardData(
        language="en",
        license=first["license"],
        task_categories=CATEGORIES[kind],
        tags=["hf_alignmlm", "multilingual", "synthetic", "arxiv:2211.08547"],
        pretty_name=name,
        configs=[
            {
                "config_name": config,
                "data_files": [
                    {"split": split, "path": f"{config}/{kind}-{split}*.parquet"}
                    for split in build["splits"]
                ],
            }
            for config, build in builds.items()
        ],
    )
    languages = [
        f"{describe_language(SyntheticLanguage(**build['language']))}\n\n"
        + "\n".join(
            f"- {c}: {v if isinstance(v, str | int) else ' '.join(v)}" for c, v in row.items()
        )
        for build in builds.values()
        for row in [build["example"]]
    ]
    rows = [
        [f"`{config}`", split, f"{count:,}"]
        for config, build in builds.items()
        for split, count in build["splits"].items()
    ]
    body = _fill(
        "dataset",
        name=name,
        note="" if released else NOT_RELEASED,
        kind=KINDS[kind],
        first=next(iter(builds)),
        rows=markdown_table(["configuration", "split", "rows"], rows),
        languages="\n\n".join(languages),
        source=corpus_name(options),
        version=first["versions"]["hf-alignmlm"],
        build_file=BUILD_FILE,
        license=first["license"],
    )
    return DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{body}")


def push_folder(
    folder: str | Path,
    repo_id: str | None,
    *,
    repo_type: str,
    files: Sequence[str],
    texts: dict[str, str],
    private: bool | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> None:
    """Upload these files in one commit, so that a push that fails leaves nothing half done.

    `texts` are files that are not, or not so, in the folder: the card, results without paths.
    `dry_run` lists all with their sizes. A push can be repeated: what the Hub has is not sent
    again.
    """
    if not repo_id:
        raise ValueError("name the repository with --repo_id")
    folder = Path(folder)
    contents: dict[str, Path | bytes] = {
        name: folder / name for name in files if (folder / name).exists()
    }
    contents |= {name: text.encode() for name, text in texts.items()}
    for name, content in contents.items():
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        print(f"{size:>12,}  {name}")
    if dry_run:
        print(f"{len(contents)} files would go to {repo_type} {repo_id}")
        return
    api = HfApi(token=token)
    try:
        repo_id = api.create_repo(
            repo_id, repo_type=repo_type, private=private, exist_ok=True
        ).repo_id
        operations = [CommitOperationAdd(name, content) for name, content in contents.items()]
        commit = api.create_commit(
            repo_id, operations, repo_type=repo_type, commit_message="Upload with hf_alignmlm"
        )
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        raise ValueError(
            f"the push to {repo_id} failed and left {folder} as it was; repeat it: {error}"
        ) from None
    print(f"Pushed to {commit.repo_url}")


def push_model(
    run: str | Path,
    repo_id: str | None,
    *,
    transfer: str | Path | None = None,
    private: bool | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> None:
    """Push what a reader needs of a run, and its card; folders of this machine stay untold."""
    card = model_card(run, repo_id=repo_id, transfer=transfer)
    results = read_json(Path(run) / RESULTS_FILE)
    results["arguments"] = without_folders(results.get("arguments", {}))
    push_folder(
        run,
        repo_id,
        repo_type="model",
        files=RELEASED,
        texts={CARD_FILE: str(card), RESULTS_FILE: json.dumps(results, indent=2)},
        private=private,
        token=token,
        dry_run=dry_run,
    )


def push_run(args: TrainingArguments) -> None:
    """Push a run as the library's own options say: `--hub_model_id` and those beside it."""
    folder = str(args.output_dir)
    push_model(
        folder,
        args.hub_model_id or Path(folder).name,
        private=args.hub_private_repo,
        token=args.hub_token,
    )


def add_push_options(parser: argparse.ArgumentParser) -> None:
    """The options of a push, the same for models and datasets."""
    parser.add_argument("--repo_id", help="push: where to, as me/name")
    parser.add_argument("--private", action="store_true", default=None, help="push: a private repo")
    parser.add_argument("--dry_run", action="store_true", help="push: list files and sizes only")


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m hf_alignmlm.cards`."""
    parser = argparse.ArgumentParser(prog="python -m hf_alignmlm.cards", description=__doc__)
    parser.add_argument("command", choices=("write", "push"))
    parser.add_argument("run", help="a finished run, or (write) a built dataset")
    parser.add_argument("--transfer", help="a folder of task runs, for the transfer results")
    parser.add_argument("--output", help="write: the card's file; default: the run's README.md")
    add_push_options(parser)
    args = parser.parse_args(argv)
    with one_line_errors():
        if args.command == "push":
            push_model(
                args.run,
                args.repo_id,
                transfer=args.transfer,
                private=args.private,
                dry_run=args.dry_run,
            )
        else:
            path = Path(args.output or Path(args.run) / CARD_FILE)
            builds = read_builds(args.run)
            card = dataset_card(builds, Path(args.run).name) if builds else None
            write_text(path, str(card or model_card(args.run, transfer=args.transfer)))
            print(f"Card in {path}")


if __name__ == "__main__":
    main()

"""What a fine-tuning run is asked for: its options, checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from hf_alignmlm.arguments import option, option_names, parse, peek
from hf_alignmlm.files import read_record
from hf_alignmlm.languages.synthetic import LANGUAGE_FILE, NATURAL, SyntheticLanguage
from hf_alignmlm.runs import RESULTS_FILE, check_output_dir
from hf_alignmlm.sizes import SIZES, size_of
from hf_alignmlm.tasks.base import TASKS, Encoded, Task
from hf_alignmlm.trainer import CommandArguments


@dataclass
class TaskArguments:
    """Which checkpoint, task, language and data. With no data named, the embedded corpus."""

    model_name_or_path: str = option("", "Checkpoint of `alignmlm pretrain`, or a WordPiece BERT.")
    task_name: str | None = option(
        None, "The task, as pos; an unknown name lists those of this command."
    )
    language: str | None = option(None, "The derived language; default: the checkpoint's.")
    train_file: str | None = option(None, "CoNLL-U, JSON lines, CSV, parquet or columns of tags.")
    validation_file: str | None = option(None, "The same, to look at while choosing options.")
    test_file: str | None = option(None, "The same, to score.")
    dataset_name: str | None = option(None, "Task on the Hub, as facebook/xnli.")
    dataset_config_name: str | None = option(None, "Its configuration, as en.")
    natural_languages: list[str] = option(
        [], "Other configurations of the dataset, to test on as well.", nargs="+"
    )
    max_train_samples: int | None = option(None, "Use only this many training rows.")
    max_eval_samples: int | None = option(None, "The same, of validation and test rows.")
    max_seq_length: int | None = option(None, "Default: the model's positions, 128 at most.")
    seeds: list[int] = option([0], "Fine-tune once for each of these seeds.", nargs="+")
    skip_supervised: bool = option(False, "Leave out BS, and the gap with it.")
    double_vocabulary: bool = option(
        False, "Double a vocabulary of one script; the second half's embeddings are copies."
    )


@dataclass
class FineTuningArguments(CommandArguments):
    """The library's training arguments. Only the first seed's model is kept."""

    save_strategy: str = option("no", "Checkpoints within a fine-tuning run.")
    train_sampling_strategy: str = option("group_by_length", "Batches of like lengths pad less.")


@dataclass
class Run:
    """What is asked for, and what has been made of it so far.

    `results` are what is known beside the scores; `label_ids` are the ids of the labels, in order;
    `encoded` is by language (`original`, `derived`) and split; `doubled` says that the vocabulary
    is doubled here.
    """

    task: Task
    options: TaskArguments
    args: FineTuningArguments
    arguments: dict[str, Any]
    config: Any
    language: SyntheticLanguage
    folder: Path
    results: dict[str, Any]
    tokenizer: Any = None
    doubled: bool = False
    label_ids: dict[str, int] = field(default_factory=dict)
    encoded: dict[tuple[str, str], Encoded] = field(default_factory=dict)


def check(argv: Sequence[str] | None, command: str) -> Run | None:
    """The run that is asked for; None where its folder holds it, finished. Writes nothing."""
    tasks = {name: task for name, task in TASKS.items() if task.command == command}
    # `alignmlm nli` takes the task of its own name by default; `alignmlm tag` has none.
    default = command if command in tasks else ""
    asked = peek(argv, model_name_or_path="", task_name=default)
    name, config, defaults = asked["model_name_or_path"], None, {}
    if name:
        config = load_config(name)
        output_dir = f"{name.rstrip('/')}-{asked['task_name']}"
        defaults = SIZES[size_of(config)].finetuning | {"output_dir": output_dir}
    (options, args), arguments = parse([TaskArguments, FineTuningArguments], argv, **defaults)
    if not name:
        raise ValueError("name a checkpoint with --model_name_or_path")
    task = tasks.get(asked["task_name"])
    if task is None:
        known = ", ".join(tasks)
        raise ValueError(f"unknown task_name {asked['task_name']!r}: known are {known}")
    language, folder = load_language(options), Path(args.output_dir)
    run = Run(task, options, args, arguments, config, language, folder, load_results(name))
    check_options(run, option_names(argv))
    if check_output_dir(folder, arguments, overwrite=args.overwrite_output_dir, keep=name):
        print(f"{folder} holds this run, finished: see {RESULTS_FILE} in it")
        return None
    return run


def load_config(name: str) -> Any:
    """The checkpoint's configuration; one line, with its file, where it describes no model."""
    try:
        config = AutoConfig.from_pretrained(name)
        if size_of(config) and config.max_position_embeddings >= 3:
            return config
        reason = f"max_position_embeddings is {config.max_position_embeddings}"
    except Exception as error:  # whatever a damaged or missing file leads to
        reason = str(error)[:200]
    raise ValueError(f"--model_name_or_path {name}: no config.json of a model to tune: {reason}")


def load_language(options: TaskArguments) -> SyntheticLanguage:
    """The language that is asked for, or the one that lies beside the checkpoint."""
    folder, name = Path(options.model_name_or_path), options.language
    if (folder / LANGUAGE_FILE).exists():
        language = SyntheticLanguage.from_pretrained(folder)
        if NATURAL in (name, language.name) and name not in (None, language.name):
            raise ValueError(f"--language {name}: the second language of {folder} is another text")
        return language if name is None else replace(language, name=name)
    if name is None:
        raise ValueError(
            f"{folder} has no {LANGUAGE_FILE} beside it: name the derived language with --language"
        )
    return SyntheticLanguage.from_name(name)


def load_results(name: str) -> dict[str, Any]:
    """What the checkpoint's own results tell of its pre-training."""
    path = Path(name) / RESULTS_FILE
    results = read_record(path) if path.exists() else {}
    known = {key: results.get(key) for key in ("objective", "alignment_p1")}
    return known | {"pretraining_seed": results.get("seed")}


def check_options(run: Run, given: Sequence[str]) -> None:
    """Refuse options that would do nothing, or that would fail after training."""
    options, args, positions = run.options, run.args, run.config.max_position_embeddings
    wrong = {
        "--seed does nothing in fine-tuning: --seeds has the seed of each": "seed" in given,
        "--seeds names a seed twice": len(set(options.seeds)) < len(options.seeds),
        f"--max_seq_length is more than the model's {positions} positions": (
            (options.max_seq_length or 0) > positions
        ),
        "--label_names: a task has its own": args.label_names is not None,
        "--load_best_model_at_end needs an --eval_strategy": (
            args.load_best_model_at_end and args.eval_strategy == "no"
        ),
        "--metric_for_best_model: eval_loss is the only one": (
            args.metric_for_best_model not in (None, "loss", "eval_loss")
        ),
    }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(message)

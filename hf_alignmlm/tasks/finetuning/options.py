"""What a fine-tuning run is asked for: its options, checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.utils import logging

from hf_alignmlm.arguments import by_language, option, option_names, parse, peek
from hf_alignmlm.files import read_record
from hf_alignmlm.languages.natural import Languages, NaturalLanguages, load_languages
from hf_alignmlm.languages.synthetic import LANGUAGE_FILE, SyntheticLanguage
from hf_alignmlm.models.configuration import positions
from hf_alignmlm.runs import RESULTS_FILE, check_output_dir
from hf_alignmlm.sizes import SIZES, size_of
from hf_alignmlm.tasks.base import TASKS, Encoded, Task
from hf_alignmlm.tasks.reading import SPLITS
from hf_alignmlm.trainer import CommandArguments

logger = logging.get_logger(__name__)

# Where the data of a language may stand: an option for each.
SOURCES = (*(f"{split}_file" for split in SPLITS), "dataset_config_name")


@dataclass
class TaskArguments:
    """Which checkpoint, task, language and data. With no data named, the embedded corpus."""

    model_name_or_path: str = option("", "Checkpoint of `alignmlm pretrain`, or any encoder.")
    task_name: str | None = option(
        None, "The task, as pos; an unknown name lists those of this command."
    )
    language: str | None = option(None, "The derived language; default: the checkpoint's.")
    train_file: list[str] = option(
        [],
        "CoNLL-U, JSON lines, CSV, parquet or columns of tags. Of natural languages NAME=FILE, as "
        "en=a.conllu fr=b.conllu: the first is fine-tuned on for zero-shot transfer.",
        nargs="+",
    )
    validation_file: list[str] = option(
        [], "The same, to look at while choosing options.", nargs="+"
    )
    test_file: list[str] = option([], "The same, to score.", nargs="+")
    dataset_name: str | None = option(None, "Task on the Hub, as facebook/xnli.")
    dataset_config_name: list[str] = option(
        [], "Its configuration, as en; of natural languages one each, as en=en fr=fr.", nargs="+"
    )
    xnli_mixed: bool = option(
        False, "Score pairs whose hypothesis is of the other language, too (parallel test sets)."
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

    `sources` are the files of each language, by split, or its configuration on the Hub; the first
    language is the source of the transfer. `results` are what is known beside the scores, and
    `about` what is known of each further natural language; `label_ids` are the ids of the labels,
    in order; `encoded` is by language and split; `tuned` are the languages to fine-tune on, the
    source first; `doubled` says that the vocabulary is doubled here.
    """

    task: Task
    options: TaskArguments
    args: FineTuningArguments
    arguments: dict[str, Any]
    config: Any
    language: Languages
    sources: dict[str, dict[str, str]]
    folder: Path
    results: dict[str, Any]
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokenizer: Any = None
    doubled: bool = False
    label_ids: dict[str, int] = field(default_factory=dict)
    tuned: list[str] = field(default_factory=list)
    encoded: dict[tuple[str, str], Encoded] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The languages of this run, the source first."""
        return SyntheticLanguage.names if self.is_synthetic else tuple(self.sources)

    @property
    def is_synthetic(self) -> bool:
        """Whether the second language is derived from the rows of the first."""
        return isinstance(self.language, SyntheticLanguage)


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
    named = {name: by_language(name, getattr(options, name)) for name in SOURCES}
    language, folder = load_language(options, named), Path(args.output_dir)
    sources = sources_of(language, named)
    run = Run(task, options, args, arguments, config, language, sources, folder, {})
    check_options(run, option_names(argv))
    load_results(run)
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


def load_language(options: TaskArguments, named: dict[str, dict[str, list[str]]]) -> Languages:
    """The languages that lie beside the checkpoint; else the one that is asked for, or the files'.

    `named` has the values of each option by language.
    """
    folder, name = Path(options.model_name_or_path), options.language
    if (folder / LANGUAGE_FILE).exists():
        languages = load_languages(folder)
        if isinstance(languages, SyntheticLanguage):
            return languages if name is None else replace(languages, name=name)
        if name is None:
            return languages
        raise ValueError(f"--language {name}: {folder} has natural languages, {languages.name}")
    if name is not None:
        return SyntheticLanguage.from_name(name)
    if names := {name: None for values in named.values() for name in values if name}:
        return NaturalLanguages(tuple(names))
    raise ValueError(
        f"{folder} has no {LANGUAGE_FILE} beside it: name the derived language with --language, or "
        "the natural language of each file, as --train_file en=FILE"
    )


def sources_of(
    language: Languages, named: dict[str, dict[str, list[str]]]
) -> dict[str, dict[str, str]]:
    """The files and the configuration of each language, by option; the source comes first.

    What has no name is the first language's. ValueError for a name where the second language is
    derived, and for two files of one language and split.
    """
    sources: dict[str, dict[str, str]] = {}
    for option_name, values in named.items():
        for name, (value, *others) in values.items():
            if name and isinstance(language, SyntheticLanguage):
                raise ValueError(
                    f"--{option_name} {name}={value}: the second language is {language.name}, "
                    "which is derived from the first: give files without names"
                )
            if others:
                raise ValueError(
                    f"--{option_name} has {value} and {others[0]} for one language: give one, or "
                    "put the name of its language before each, as en=FILE"
                )
            sources.setdefault(name or language.names[0], {})[option_name] = value
    if sources and not isinstance(language, SyntheticLanguage):
        NaturalLanguages(tuple(sources))  # checks the names
    return sources or {language.names[0]: {}}


def load_results(run: Run) -> None:
    """What the checkpoint's own results tell of its pre-training and of its pairs of languages."""
    path = Path(run.options.model_name_or_path) / RESULTS_FILE
    results = read_record(path) if path.exists() else {}
    run.results = {key: results.get(key) for key in ("objective", "alignment_p1")}
    run.results["pretraining_seed"] = results.get("seed")
    if run.is_synthetic:
        return
    has_names = path.with_name(LANGUAGE_FILE).exists()
    run.results["pretraining_languages"] = run.language.name if has_names else None
    source, *others = run.names
    for name in others:
        pair = f"{source}-{name}"
        key = "alignment_p1" if run.language.name == pair else f"alignment_{pair}_p1"
        run.about[name] = {"alignment_p1": results.get(key)}
    if unknown := [name for name in run.names if name not in run.language.names]:
        logger.warning(
            "%s: no language of the checkpoint (%s), so it has seen no text of it",
            *(", ".join(unknown), run.language.name),
        )


def check_options(run: Run, given: Sequence[str]) -> None:
    """Refuse options that would do nothing, or that would fail after training."""
    options, args, most = run.options, run.args, positions(run.config)
    files = {name: {*source} - {"dataset_config_name"} for name, source in run.sources.items()}
    no_test = [name for name, given in files.items() if given and "test_file" not in given]
    has_data = options.dataset_name or any(run.sources.values())
    wrong = {
        "natural languages have no embedded task: give --train_file and --test_file NAME=FILE": (
            not run.is_synthetic and not has_data
        ),
        f"--test_file has none of {', '.join(no_test)}, which has other files: give one": (
            no_test and len(files) > 1
        ),
        "--double_vocabulary is for a synthetic language: these are natural": (
            options.double_vocabulary and not run.is_synthetic
        ),
        f"--xnli_mixed mixes pairs of sentences, and {run.task.title} has none": (
            options.xnli_mixed and type(run.task).mix is Task.mix
        ),
        "--xnli_mixed needs the test set of another language": (
            options.xnli_mixed and len(run.names) < 2
        ),
        "--seed does nothing in fine-tuning: --seeds has the seed of each": "seed" in given,
        "--seeds names a seed twice": len(set(options.seeds)) < len(options.seeds),
        f"--max_seq_length is more than the model's {most} positions": (
            (options.max_seq_length or 0) > most
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

"""What a pre-training run is asked for: its options, checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from hf_alignmlm.arguments import by_language, option, option_names, parse, peek
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.data.formats import check_file
from hf_alignmlm.languages.natural import Languages, NaturalLanguages
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.objectives import Objective
from hf_alignmlm.objectives.base import find as find_objective
from hf_alignmlm.runs import RESULTS_FILE, check_output_dir
from hf_alignmlm.sizes import SIZES
from hf_alignmlm.trainer import AlignMLMTrainingArguments


@dataclass
class ModelArguments:
    """Which objective, model and tokenizer."""

    objective: str = option(
        "align-mlm", "The objective; --objective NAME --help shows the options of another one."
    )
    model_name_or_path: str | None = option(None, "Checkpoint to go on from; none to start afresh.")
    size: str = option("mini", f"Model and training defaults: {', '.join(SIZES)}.")
    config_name: str | None = option(None, "Configuration to start afresh from, instead of a size.")
    config_overrides: str | None = option(
        None, "Changes to the configuration, as hidden_size=256,num_hidden_layers=6."
    )
    tokenizer_name: str | None = option(
        None, "WordPiece tokenizer to take, doubled here; none to train one on the corpus."
    )
    vocab_size: int | None = option(
        None, "Tokens of the trained tokenizer, before doubling; default: the size's."
    )
    lowercase: bool = option(False, "Train an uncased tokenizer.")
    alignment_loss_weight: float | None = option(
        None, "Weight of the alignment loss, with any objective; default: 10 for align-mlm, else 0."
    )
    alignment_loss_type: str = option("cosine", "The alignment loss; cosine is the paper's.")


@dataclass
class DataArguments:
    """Which text, which languages, which dictionary. With no source, the embedded corpus.

    Text of natural languages comes as NAME=FILE, the source first, and each is read, none derived.
    """

    language: str = option("trans_inv", "The derived language, as trans, trans_inv, trans50_perm.")
    language_seed: int = option(0, "Seed of the language's permutations and shared words.")
    train_file: list[str] = option(
        [],
        "Text, JSON lines, CSV, parquet or CoNLL-U; en=FILE fr=FILE for natural languages.",
        nargs="+",
    )
    validation_file: list[str] = option([], "The same, to validate on.", nargs="+")
    dataset_name: list[str] = option(
        [], "Corpus on the Hub, or a folder of parquet files; NAME=DATASET as well.", nargs="+"
    )
    dataset_config_name: list[str] = option(
        [], "Its configuration; of natural languages NAME=CONFIG, as sw=20231101.sw.", nargs="+"
    )
    sampling_alpha: float = option(
        0.7, "Shares of natural languages are those of their text to this power; 0: all alike."
    )
    streaming: bool = option(False, "Read the corpus as it trains, without preparing it first.")
    shuffle_buffer: int = option(10_000, "Sequences to shuffle among when streaming.")
    validation_split_percentage: int = option(
        5, "Percent of the training corpus to validate on where there is no validation set."
    )
    max_train_samples: int | None = option(None, "Use only this many rows (lines, sentences).")
    max_eval_samples: int | None = option(None, "The same, of the validation set.")
    max_seq_length: int | None = option(None, "Tokens of a packed sequence; default: the size's.")
    preprocessing_num_workers: int | None = option(None, "Processes that tokenize.")
    dictionary_file: list[str] = option(
        [],
        "Two-column file of word pairs, of natural languages en-fr=FILE; default for synthetic "
        "ones: the vocabulary and its twin.",
        nargs="+",
    )
    parallel_file: list[str] = option(
        [],
        "Sentences and their translations, for xlm: en-fr=FILE, or two files of one pair, line by "
        "line.",
        nargs="+",
    )
    parallel_dataset_name: list[str] = option([], "The same on the Hub: en-fr=DATASET.", nargs="+")
    parallel_dataset_config_name: list[str] = option(
        [], "Its configuration: en-fr=CONFIG.", nargs="+"
    )
    dictionary_fraction: float = option(1.0, "Share of the pairs seen in training, 0 to 1.")
    dictionary_seed: int = option(0, "Seed of that draw.")


# The options that say where text comes from.
SOURCES = ("train_file", "validation_file", "dataset_name", "dataset_config_name")
PARALLEL = ("parallel_file", "parallel_dataset_name", "parallel_dataset_config_name")
# What an option does nothing without, and beside which option others do nothing.
NEEDS = {
    "validation_file": "train_file",
    "dataset_config_name": "dataset_name",
    "parallel_dataset_config_name": "parallel_dataset_name",
    "shuffle_buffer": "streaming",
}
IDLE_BESIDE = {
    "model_name_or_path": ("config_name", "config_overrides", "vocab_size", "lowercase"),
    "tokenizer_name": ("vocab_size", "lowercase"),
    "validation_file": ("validation_split_percentage",),
    "streaming": ("validation_split_percentage", "sampling_alpha"),
}


@dataclass
class Run:
    """What was asked for, and what has been made of it so far."""

    model: ModelArguments
    data: DataArguments
    objective: Objective
    args: AlignMLMTrainingArguments
    arguments: dict[str, Any]
    language: Languages
    max_seq_length: int
    tokenizer: Any = None
    dictionary: BilingualDictionary | None = None
    results: dict[str, Any] = field(default_factory=dict)

    def source(self, name: str) -> dict[str, Any]:
        """Where the text of a language comes from, as `sources.load_splits` takes it."""
        own: dict[str, Any] = {}
        for where in SOURCES:
            values = by_language(where, getattr(self.data, where))
            own[where] = values.get(name, values.get("", []))
        for where in ("dataset_name", "dataset_config_name"):
            if len(own[where]) > 1:
                raise ValueError(f"--{where} has {len(own[where])} values of a language: give one")
            own[where] = next(iter(own[where]), None)
        return own

    @property
    def parallel(self) -> dict[str, dict[str, Any]]:
        """Where the text of each pair of languages comes from, as `load_parallel` takes it.

        ValueError for a pair that is not of the source and another language, or without one text.
        """
        given = [by_language(where, getattr(self.data, where)) for where in PARALLEL]
        source, *others = self.language.names
        found: dict[str, dict[str, Any]] = {}
        for pair in dict.fromkeys(chain.from_iterable(given)):
            files, *hub = (named.get(pair, []) for named in given)
            if pair not in {p for o in others for p in (f"{source}-{o}", f"{o}-{source}")}:
                raise ValueError(
                    f"--parallel_file: {pair or files[0]} is no pair of {source}, the source, and "
                    f"another language: give {source}-{others[-1]}=FILE"
                )
            if bool(files) == bool(hub[0]) or max(map(len, hub)) > 1:
                raise ValueError(f"{pair} needs files or one data set of parallel text, not both")
            name, config = (next(iter(values), None) for values in hub)
            found[pair] = {"files": files, "dataset_name": name, "dataset_config_name": config}
        return found

    @property
    def dictionary_files(self) -> dict[str, list[str]]:
        """The files of each pair of languages; of a synthetic pair, and of two languages, unnamed.

        ValueError for a pair of other languages.
        """
        files, names = (
            by_language("dictionary_file", self.data.dictionary_file),
            self.language.names,
        )
        if "" in files and len(names) == 2:
            return {"-".join(names): files[""]}
        for pair in files:
            if len({*pair.split("-")} & {*names}) != 2:
                raise ValueError(
                    f"--dictionary_file: {pair or files[''][0]} is no pair of {', '.join(names)}: "
                    f"give {names[0]}-{names[-1]}=FILE"
                )
        return files

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(str(self.args.output_dir))

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.args.process_index == 0

    @property
    def step_rows(self) -> int:
        """Sequences of one step, of all processes."""
        args = self.args
        return args.train_batch_size * args.world_size * args.gradient_accumulation_steps


def check(argv: Sequence[str] | None) -> Run | None:
    """The run that is asked for; None where its folder holds it, finished. Writes nothing."""
    chosen = peek(argv, size="mini", objective="align-mlm", language="trans_inv")
    if chosen["size"] not in SIZES:
        raise ValueError(f"unknown size {chosen['size']!r}: known are {', '.join(SIZES)}")
    size, objective_class = SIZES[chosen["size"]], find_objective(chosen["objective"])
    given = set(option_names(argv))
    objective_class.refuse_options_of_others(given)
    # The sizes say how many steps; who asks for epochs means epochs.
    training = size.training | ({"max_steps": -1} if "num_train_epochs" in given else {})
    (model, data, objective, args), arguments = parse(
        [ModelArguments, DataArguments, objective_class, AlignMLMTrainingArguments],
        argv,
        output_dir=f"runs/{chosen['objective']}-{chosen['language']}",
        **training,
    )
    # The library would push checkpoints as they come, under a card of its own.
    args.push_to_hub = False
    if model.alignment_loss_weight is None:
        model.alignment_loss_weight = objective.alignment_loss_weight
    for name, other in NEEDS.items():
        if name in given and other not in given:
            raise ValueError(f"--{name} does nothing without --{other}: give both, or neither")
    if given.intersection(PARALLEL):  # of which that share is held out
        given.discard("validation_split_percentage")
    for other, names in IDLE_BESIDE.items():
        if other in given and (idle := sorted(given.intersection(names))):
            raise ValueError(f"--{idle[0]} does nothing beside --{other}: leave one of them out")
    length = data.max_seq_length or size.max_seq_length
    run = Run(model, data, objective, args, arguments, _languages(data, given), length)
    _check_data(run)
    overwrite, keep = args.overwrite_output_dir, model.model_name_or_path
    if check_output_dir(run.folder, arguments, overwrite=overwrite, keep=keep):
        if run.is_main:
            print(f"{run.folder} holds this run, finished: see {RESULTS_FILE} in it")
        return None
    return run


def _languages(data: DataArguments, given: set[str]) -> Languages:
    """The languages that files and datasets name, the source first; else a synthetic pair.

    ValueError for options of the other kind.
    """
    names = dict.fromkeys(
        name for where in SOURCES for name in by_language(where, getattr(data, where)) if name
    )
    if not names:
        if "sampling_alpha" in given:
            raise ValueError("--sampling_alpha is for natural languages: name them as NAME=FILE")
        return SyntheticLanguage.from_name(data.language, seed=data.language_seed)
    if idle := sorted(given & {"language", "language_seed"}):
        raise ValueError(
            f"--{idle[0]} does nothing beside natural languages: leave one of them out"
        )
    return NaturalLanguages(tuple(names))


def _check_data(run: Run) -> None:
    data, natural = run.data, isinstance(run.language, NaturalLanguages)
    for name in run.language.names if natural else ("original",):
        text = run.source(name)
        if natural and not (text["train_file"] or text["dataset_name"]):
            raise ValueError(f"{name} has no text to train on: give {name}=FILE to --train_file")
        for path in (*text["train_file"], *text["validation_file"]):
            check_file(path)
    parallel = any(getattr(data, where) for where in PARALLEL)
    if parallel != bool(natural and run.objective.pair_rate):
        raise ValueError(
            "--parallel_file is for --objective xlm of natural languages, named as NAME=FILE, and "
            "is wanted there: give both, or neither"
        )
    for path in chain.from_iterable(text["files"] for text in run.parallel.values()):
        check_file(path)
    for pair, paths in run.dictionary_files.items():
        if len(paths) > 1:
            raise ValueError(
                f"--dictionary_file has {len(paths)} files of {pair}: join them to one"
            )
        check_file(paths[0])
    if run.args.save_total_limit == 1:
        raise ValueError("save_total_limit must be at least 2: one checkpoint may be damaged")
    if data.streaming and run.args.max_steps <= 0:
        raise ValueError("a stream has no length: say with --max_steps how long to train")

"""What a pre-training run is asked for: its options, checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_alignmlm.arguments import option, option_names, parse, peek
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.data.formats import check_file
from hf_alignmlm.languages.synthetic import NATURAL, SyntheticLanguage
from hf_alignmlm.models.alignment_loss import PAIRS_PER_STEP
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
    alignment_pairs_per_step: int | None = option(
        None,
        "Dictionary pairs of a step; default: all if each word is one piece, else at most "
        f"{PAIRS_PER_STEP:,}.",
    )
    alignment_word_weights: str = option(
        "uniform", "Each dictionary word weighs the same, or by its frequency in the text."
    )


@dataclass
class DataArguments:
    """Which text, which language, which dictionary. With no source, the embedded corpus."""

    language: str = option("trans_inv", "The derived language, as trans, trans_inv, trans50_perm.")
    language_seed: int = option(0, "Seed of the language's permutations and shared words.")
    train_file: list[str] = option([], "Text, JSON lines, CSV, parquet or CoNLL-U.", nargs="+")
    validation_file: list[str] = option([], "The same, to validate on.", nargs="+")
    derived_train_file: list[str] = option(
        [], "Text of a natural language, in place of the synthetic one.", nargs="+"
    )
    derived_validation_file: list[str] = option([], "The same, to validate on.", nargs="+")
    dataset_name: str | None = option(None, "Corpus on the Hub, or a folder of parquet files.")
    dataset_config_name: str | None = option(None, "Its configuration.")
    streaming: bool = option(False, "Read the corpus as it trains, without preparing it first.")
    shuffle_buffer: int = option(10_000, "Sequences to shuffle among when streaming.")
    validation_split_percentage: int = option(
        5, "Percent of the training corpus to validate on where there is no validation set."
    )
    max_train_samples: int | None = option(None, "Use only this many rows (lines, sentences).")
    max_eval_samples: int | None = option(None, "The same, of the validation set.")
    max_seq_length: int | None = option(None, "Tokens of a packed sequence; default: the size's.")
    preprocessing_num_workers: int | None = option(None, "Processes that tokenize.")
    dictionary_file: str | None = option(
        None, "Two-column file of word pairs; default: the vocabulary and its twin."
    )
    dictionary_fraction: float = option(1.0, "Share of the pairs seen in training, 0 to 1.")
    dictionary_seed: int = option(0, "Seed of that draw.")


# What an option does nothing without, and beside which option others do nothing.
NEEDS = {
    "validation_file": "train_file",
    "derived_validation_file": "derived_train_file",
    "dataset_config_name": "dataset_name",
    "shuffle_buffer": "streaming",
}
IDLE_BESIDE = {
    "derived_train_file": ("language", "language_seed"),
    "model_name_or_path": ("config_name", "config_overrides", "vocab_size", "lowercase"),
    "tokenizer_name": ("vocab_size", "lowercase"),
    "validation_file": ("validation_split_percentage",),
    "streaming": ("validation_split_percentage",),
}


@dataclass
class Run:
    """What was asked for, and what has been made of it so far."""

    model: ModelArguments
    data: DataArguments
    objective: Objective
    args: AlignMLMTrainingArguments
    arguments: dict[str, Any]
    language: SyntheticLanguage
    max_seq_length: int
    tokenizer: Any = None
    dictionary: BilingualDictionary | None = None
    results: dict[str, Any] = field(default_factory=dict)

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
    if data.language == NATURAL:
        given.discard("language")
    for name, other in NEEDS.items():
        if name in given and other not in given:
            raise ValueError(f"--{name} does nothing without --{other}: give both, or neither")
    for other, names in IDLE_BESIDE.items():
        if other in given and (idle := sorted(given.intersection(names))):
            raise ValueError(f"--{idle[0]} does nothing beside --{other}: leave one of them out")
    name = NATURAL if data.derived_train_file else data.language
    language = SyntheticLanguage.from_name(name, seed=data.language_seed)
    length = data.max_seq_length or size.max_seq_length
    run = Run(model, data, objective, args, arguments, language, length)
    _check_data(run)
    overwrite, keep = args.overwrite_output_dir, model.model_name_or_path
    if check_output_dir(run.folder, arguments, overwrite=overwrite, keep=keep):
        if run.is_main:
            print(f"{run.folder} holds this run, finished: see {RESULTS_FILE} in it")
        return None
    return run


def _check_data(run: Run) -> None:
    data = run.data
    if run.language.name == NATURAL and (not data.derived_train_file or run.objective.pair_rate):
        raise ValueError(
            "a natural language needs --derived_train_file, and xlm needs parallel text: "
            "take another objective or a synthetic language"
        )
    original, derived = data.train_file + data.validation_file, data.derived_train_file
    for path in original + derived + data.derived_validation_file:
        check_file(path)
    if run.args.save_total_limit == 1:
        raise ValueError("save_total_limit must be at least 2: one checkpoint may be damaged")
    if data.streaming and run.args.max_steps <= 0:
        raise ValueError("a stream has no length: say with --max_steps how long to train")

"""The options of pre-training."""

from dataclasses import dataclass
from typing import Literal

from hf_alignmlm.arguments import option
from hf_alignmlm.models.alignment_loss import PAIRS_PER_STEP
from hf_alignmlm.sizes import SIZES


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
        None, "Tokenizer to take, doubled for a synthetic pair; none to train one on the corpus."
    )
    vocab_size: int | None = option(
        None, "Tokens of the trained tokenizer, before doubling; default: the size's."
    )
    lowercase: bool = option(False, "Train an uncased tokenizer.")
    tokenizer_type: Literal["wordpiece", "unigram", "bpe"] = option(
        "wordpiece", "Tokenizer to train: as BERT's, XLM-R's (unigram) or RoBERTa's (bpe)."
    )
    extend_vocab: int | None = option(
        None, "Tokens to add to the checkpoint's, learned on the languages after the first."
    )
    extend_vocab_init: Literal["dictionary", "pieces", "mean", "random"] = option(
        "dictionary",
        "Their first embeddings: of their translations and, without any, of their old pieces; of "
        "their old pieces only; the mean of all; random.",
    )
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
    dictionary_fraction: float = option(1.0, "Share of the pairs seen in training, 0 to 1.")
    dictionary_seed: int = option(0, "Seed of that draw.")
    parallel_file: list[str] = option(
        [],
        "Sentences and their translations for xlm, en-fr=FILE: two columns, JSON lines, or two "
        "aligned files.",
        nargs="+",
    )
    parallel_dataset_name: list[str] = option([], "The same of the Hub, en-fr=DATASET.", nargs="+")
    parallel_dataset_config_name: list[str] = option(
        [], "Its configuration, en-fr=en-fr.", nargs="+"
    )


# The options that say where text comes from.
SOURCES = ("train_file", "validation_file", "dataset_name", "dataset_config_name")
PARALLEL = ("parallel_file", "parallel_dataset_name", "parallel_dataset_config_name")
# What an option does nothing without, and beside which option others do nothing.
NEEDS = {
    "validation_file": "train_file",
    "dataset_config_name": "dataset_name",
    "parallel_dataset_config_name": "parallel_dataset_name",
    "shuffle_buffer": "streaming",
    "extend_vocab": "model_name_or_path",
    "extend_vocab_init": "extend_vocab",
}
OF_TRAINED_TOKENIZER = ("vocab_size", "lowercase", "tokenizer_type")
IDLE_BESIDE = {
    "model_name_or_path": ("config_name", "config_overrides", *OF_TRAINED_TOKENIZER),
    "tokenizer_name": (*OF_TRAINED_TOKENIZER, "extend_vocab"),
    "validation_file": ("validation_split_percentage",),
    "streaming": ("validation_split_percentage", "sampling_alpha"),
}

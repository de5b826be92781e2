"""From text to packed sequences: load, tokenize, pack."""

from functools import partial
from typing import Any

from datasets import Dataset
from transformers.utils import logging

from hf_alignmlm.data import packing, sources
from hf_alignmlm.data.encoding import tokenize_corpus
from hf_alignmlm.data.natural import balance, tokenize_text
from hf_alignmlm.data.parallel import load_parallel, tokenize_pairs
from hf_alignmlm.languages.natural import NaturalLanguages
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.pretraining import words
from hf_alignmlm.pretraining.run import Run

logger = logging.get_logger(__name__)

# A language that is seen more often is worth a warning.
OFTEN = 20

# The training and validation corpus of each language that has a text of its own, and of each pair
# (en-fr) that has parallel text.
Corpora = dict[str, tuple[sources.Corpus, sources.Corpus]]


def load(run: Run) -> Corpora:
    """The text of the run."""
    names = ("streaming", "validation_split_percentage", "max_train_samples", "max_eval_samples")
    options: dict[str, Any] = {name: getattr(run.data, name) for name in names}
    # The second of a synthetic pair is derived from the first.
    read = run.language.names if isinstance(run.language, NaturalLanguages) else ("original",)
    corpora: Corpora = {n: sources.load_splits(**run.source(n), **options) for n in read}
    options.pop("streaming")
    return corpora | {n: load_parallel(n, **where, **options) for n, where in run.parallel.items()}


def _check_stream(train: sources.Corpus) -> None:
    if not isinstance(train, Dataset) and next(iter(train), None) is None:
        raise ValueError(
            "the stream has no text to train on: all of it went to validation (give "
            "--validation_file), or it uses the derived script"
        )


def tokenize(run: Run, corpora: Corpora) -> Corpora:
    """Give the run its tokenizer and dictionary, and each corpus as token ids."""
    texts = {name: train for name, (train, _) in corpora.items() if name not in run.parallel}
    for train in texts.values():
        _check_stream(train)
    run.tokenizer, run.language = words.make_tokenizer(run, texts)
    for name in ("is_local", "local_files_only"):
        run.tokenizer.init_kwargs.pop(name, None)  # where it was read is no part of what it is
    parts = words.make_dictionary(run)
    # Wanting a dictionary and having none is an error before the work begins.
    run.objective.prepare(run.dictionary, len(run.tokenizer))
    if run.model.alignment_loss_weight:
        words.check_dictionary(run)
    tokenized: Corpora = {
        name: (_encoded(run, name, "training", train), _encoded(run, name, "validation", held_out))
        for name, (train, held_out) in corpora.items()
    }
    words.count(run, parts, {name: train for name, (train, _) in tokenized.items()})
    return tokenized


def _encoded(run: Run, language: str, split: str, corpus: sources.Corpus) -> sources.Corpus:
    """The token ids of a corpus: of both languages of a synthetic pair, or of its own."""
    workers = run.data.preprocessing_num_workers
    if isinstance(run.language, SyntheticLanguage):
        name = f"the {split} corpus"
        return tokenize_corpus(corpus, run.tokenizer, run.language, num_proc=workers, name=name)
    name = f"the {language} {split} corpus"
    if language in run.parallel:
        names = sorted(language.split("-"), key=run.language.names.index)
        return tokenize_pairs(corpus, run.tokenizer, names, num_proc=workers, name=name)
    return tokenize_text(corpus, run.tokenizer, language, num_proc=workers, name=name)


def pack(run: Run, tokenized: Corpora) -> tuple[sources.Corpus, dict[str, sources.Corpus]]:
    """Packed sequences to train on, and those of each language or pair to evaluate on."""
    packed = partial(
        packing.pack,
        tokenizer=run.tokenizer,
        max_seq_length=run.max_seq_length,
        isolate_sentences=run.objective.isolate_sentences,
        seed=run.data_seed,
    )
    numbers = {name: number for number, name in enumerate(run.language.names)}
    if isinstance(run.language, SyntheticLanguage):
        corpus, held_out = tokenized["original"]
        train = packed(corpus, pair_rate=run.objective.pair_rate)
        parts = {name: packed(held_out, languages={name: n}) for name, n in numbers.items()}
    else:
        train, parts = _natural(run, tokenized, packed, numbers)
    _check_stream(train)
    return train, parts


def _natural(
    run: Run, tokenized: Corpora, packed: Any, numbers: dict[str, int]
) -> tuple[sources.Corpus, dict[str, sources.Corpus]]:
    """The sequences of natural languages and of their pairs; pairs are evaluated apart as well.

    What a translation is worth shows in the loss of the same sentences without it, `en-fr_alone`.
    """
    sides = {
        name: [packed(c, languages={"ids": n}, name=name) for c in tokenized[name]]
        for name, n in numbers.items()
    }
    trains = [_balanced(run, {name: train for name, (train, _) in sides.items()})]
    parts = {name: held_out for name, (_, held_out) in sides.items()}
    for pair in run.parallel:
        train, held_out = tokenized[pair]
        second = max(numbers[name] for name in pair.split("-"))
        of_pairs = partial(packed, languages={}, pair=-second, name=pair)
        trains.append(of_pairs(train, pair_rate=run.objective.pair_rate))
        parts[pair] = of_pairs(held_out, pair_rate=1.0)
        parts[f"{pair}_alone"] = packed(held_out, languages={"source": 0, "target": second})
    return sources.join(trains) if len(trains) > 1 else trains[0], parts


def _balanced(run: Run, sequences: dict[str, sources.Corpus]) -> sources.Corpus:
    """The sequences of natural languages as one corpus, balanced; streams take turns."""
    rows = {name: one for name, one in sequences.items() if isinstance(one, Dataset)}
    if not rows:
        return sources.join(list(sequences.values()))
    train, times = balance(rows, alpha=run.data.sampling_alpha, seed=run.data_seed)
    epochs = run.args.num_train_epochs
    if run.args.max_steps > 0:
        epochs = run.args.max_steps * run.step_rows / len(train)
    shares = {name: 100 * times[name] * len(one) / len(train) for name, one in rows.items()}
    seen = {name: epochs * time for name, time in times.items()}
    run.results |= {"sampling_shares": shares, "times_seen": seen}
    shown = (f"{n} {shares[n]:.1f} % of the sequences, seen {seen[n]:.1f} times" for n in rows)
    if run.is_main:
        print(f"Balance: {'; '.join(shown)}", flush=True)
    for name in (name for name, count in seen.items() if count > OFTEN):
        logger.warning(
            "%s would be seen %.0f times: give more of its text, fewer steps or a larger "
            "--sampling_alpha",
            name,
            seen[name],
        )
    return train

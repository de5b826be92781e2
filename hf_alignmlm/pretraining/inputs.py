"""From text to packed sequences: load, tokenize, pack."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from datasets import Dataset
from transformers.utils import logging

from hf_alignmlm.data import packing, sources, tokenizer
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.data.encoding import WordEncoder, tokenize_corpus
from hf_alignmlm.data.natural import balance, tokenize_text
from hf_alignmlm.data.parallel import load_parallel, tokenize_pairs
from hf_alignmlm.languages.natural import Languages, NaturalLanguages, load_languages
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.pretraining.options import Run
from hf_alignmlm.sizes import SIZES

logger = logging.get_logger(__name__)

# A language that is seen more often is worth a warning.
OFTEN = 20
# Rows of a stream that a tokenizer is trained on.
TOKENIZER_SAMPLE = 200_000

# The training and validation corpus of each language that has a text of its own, and of each pair
# (en-fr) that has parallel text.
Corpora = dict[str, tuple[sources.Corpus, sources.Corpus]]


def load(run: Run) -> Corpora:
    """The text of the run."""
    names = ("streaming", "validation_split_percentage", "max_train_samples", "max_eval_samples")
    options: dict[str, Any] = {name: getattr(run.data, name) for name in names}
    # The second of a synthetic pair is derived from the first.
    read = run.language.names if isinstance(run.language, NaturalLanguages) else ("original",)
    corpora = {name: sources.load_splits(**run.source(name), **options) for name in read}
    del options["streaming"]
    return corpora | {p: load_parallel(p, **where, **options) for p, where in run.parallel.items()}


def _check_stream(train: sources.Corpus) -> None:
    if not isinstance(train, Dataset) and next(iter(train), None) is None:
        raise ValueError(
            "the stream has no text to train on: all of it went to validation (give "
            "--validation_file), or it uses the derived script"
        )


def tokenize(run: Run, corpora: Corpora) -> Corpora:
    """Give the run its tokenizer and dictionary, and each corpus as token ids."""
    for train, _ in corpora.values():
        _check_stream(train)
    texts = [train for name, (train, _) in corpora.items() if name not in run.parallel]
    run.tokenizer, run.language = _tokenizer(run, texts)
    for name in ("is_local", "local_files_only"):
        run.tokenizer.init_kwargs.pop(name, None)  # where it was read is no part of what it is
    run.dictionary = _dictionary(run)
    # Wanting a dictionary and having none is an error before the work begins.
    run.objective.prepare(run.dictionary, len(run.tokenizer))
    if run.model.alignment_loss_weight:
        _check_dictionary(run)
    splits = ("training", "validation")
    return {
        language: tuple(map(partial(_encoded, run, language), splits, corpora[language]))
        for language in corpora
    }


def _encoded(run: Run, language: str, split: str, corpus: sources.Corpus) -> sources.Corpus:
    """The token ids of a corpus: of both languages of a synthetic pair, or of its own."""
    workers = run.data.preprocessing_num_workers
    if isinstance(run.language, SyntheticLanguage):
        name = f"the {split} corpus"
        return tokenize_corpus(corpus, run.tokenizer, run.language, num_proc=workers, name=name)
    name = f"the {language} {split} corpus"
    if language in run.parallel:
        # The source comes first, whatever the order in the pair's name.
        names = sorted(language.split("-"), key=run.language.names.index)
        return tokenize_pairs(corpus, run.tokenizer, names, num_proc=workers, name=name)
    return tokenize_text(corpus, run.tokenizer, language, num_proc=workers, name=name)


def _check_dictionary(run: Run) -> None:
    if run.dictionary is None:
        raise ValueError(
            f"{run.language.name} has no pairs of words to align: give --dictionary_file, or take "
            "a synthetic language with trans in its name"
        )
    if not run.dictionary.seen:
        raise ValueError(
            f"dictionary_fraction {run.data.dictionary_fraction} leaves no pair to learn from: "
            "raise it, or take --objective mlm"
        )


def _tokenizer(run: Run, texts: Sequence[sources.Corpus]) -> tuple[Any, Languages]:
    """The tokenizer of the run's own folder, a given one, or one trained; doubled where needed."""
    model = run.model
    # With --overwrite_output_dir, what lies there is another run's; the other processes come after
    # the main one, which has replaced it.
    ours = not (run.args.overwrite_output_dir and run.is_main)
    if ours:
        with suppress(Exception):
            # The language is written last: where it is, there is a tokenizer. What does not read,
            # or is not there, was being written when the run was killed: it is made again.
            languages = load_languages(run.folder)
            return tokenizer.load_tokenizer(str(run.folder)), languages
    language = run.language
    if name := model.tokenizer_name or model.model_name_or_path:
        made = tokenizer.load_tokenizer(name)
    else:
        sample = sources.texts(texts, limit=TOKENIZER_SAMPLE)
        size = model.vocab_size or SIZES[model.size].vocab_size
        made = tokenizer.train_tokenizer(sample, size, lowercase=model.lowercase)
    made.model_max_length = run.max_seq_length
    if isinstance(language, NaturalLanguages):
        return made, language
    if language.mapped_share and not tokenizer.is_doubled(made):
        return tokenizer.double_tokenizer(made, language)
    if language.mapped_share:
        # Doubled before: the language spells the characters that it could spell then.
        tokens = made.convert_ids_to_tokens(list(range(len(made) // 2)))
        language = tokenizer.spelling_all(language, tokens)
    return made, language


def _dictionary(run: Run) -> BilingualDictionary | None:
    """The pairs of the files, or of the vocabulary and its twin; None where there are none."""
    data, language = run.data, run.language
    options: dict[str, Any] = {"fraction": data.dictionary_fraction, "seed": data.dictionary_seed}
    if data.dictionary_file:
        encode = WordEncoder(run.tokenizer, language).original
        unknown, parts = run.tokenizer.unk_token_id, {}
        for pair, (path,) in run.dictionary_files.items():
            parts[pair] = BilingualDictionary.from_file(path, encode, unknown_id=unknown, **options)
            if language.mapped_share:
                _check_script(path, parts[pair], run)
            count, skipped = len(parts[pair]), parts[pair].skipped
            print(f"Dictionary {pair}: {count:,} pairs, {skipped:,} unusable lines", flush=True)
        return next(iter(parts.values()))
    if isinstance(language, NaturalLanguages) or not language.mapped_share:
        return None
    pairs = tokenizer.vocabulary_pairs(run.tokenizer, language)
    return BilingualDictionary.from_pairs(pairs, **options)


def _check_script(path: str, dictionary: BilingualDictionary, run: Run) -> None:
    derived = {piece for _, words in dictionary.seen + dictionary.heldout for piece in words}
    if max(derived) < len(run.tokenizer) // 2:
        raise ValueError(
            f"{path} has no word of {run.language.name}: give the text of both languages as "
            "NAME=FILE, or leave --dictionary_file out"
        )


def pack(run: Run, tokenized: Corpora) -> tuple[sources.Corpus, dict[str, sources.Corpus]]:
    """Packed sequences to train on, and those of each language to evaluate on."""
    seed = run.args.data_seed or run.args.seed

    def packed(corpus: sources.Corpus, **more: Any) -> sources.Corpus:
        isolated, length = run.objective.isolate_sentences, run.max_seq_length
        options: dict[str, Any] = {"isolate_sentences": isolated, "seed": seed} | more
        return packing.pack(corpus, run.tokenizer, max_seq_length=length, **options)

    numbers = {name: number for number, name in enumerate(run.language.names)}
    if isinstance(run.language, SyntheticLanguage):
        corpus, held_out = tokenized["original"]
        train = packed(corpus, pair_rate=run.objective.pair_rate)
        parts = {name: packed(held_out, languages={name: n}) for name, n in numbers.items()}
    else:
        sides = {
            name: [packed(c, languages={"ids": n}) for c in tokenized[name]]
            for name, n in numbers.items()
        }
        train = _joined(run, {name: train for name, (train, _) in sides.items()}, seed)
        parts = {name: held_out for name, (_, held_out) in sides.items()}
        for pair in run.parallel:
            # Beside the loss of pairs stands that of the same sentences alone.
            other = max(numbers[name] for name in pair.split("-"))
            corpus, held_out = tokenized[pair]
            options: dict[str, Any] = {"languages": {}, "pair": -other, "name": f"{pair} pairs"}
            pairs = packed(corpus, pair_rate=run.objective.pair_rate, **options)
            train = sources.join([train, pairs])
            parts[pair] = packed(held_out, pair_rate=1.0, **options)
            parts[f"{pair}_alone"] = packed(held_out, languages={"source": 0, "target": other})
    _check_stream(train)
    return train, parts


def _joined(run: Run, sequences: dict[str, sources.Corpus], seed: int) -> sources.Corpus:
    """The sequences of natural languages as one corpus, balanced; streams take turns."""
    rows = {name: one for name, one in sequences.items() if isinstance(one, Dataset)}
    if not rows:
        return sources.join(list(sequences.values()))
    train, times = balance(rows, alpha=run.data.sampling_alpha, seed=seed)
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

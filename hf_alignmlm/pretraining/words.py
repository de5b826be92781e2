"""The words of a run: its tokenizer and its dictionary."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from datasets import Dataset
from transformers.utils import logging

from hf_alignmlm.data import sources, tokenizer
from hf_alignmlm.data.coverage import coverage, coverage_line, word_counts
from hf_alignmlm.data.dictionary import BilingualDictionary, join
from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.extension import extend_tokenizer
from hf_alignmlm.languages.natural import Languages, NaturalLanguages, load_languages
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.pretraining.run import Run
from hf_alignmlm.sizes import SIZES

logger = logging.get_logger(__name__)

# Rows of a stream that a tokenizer is trained on.
ROWS = 200_000
# The percent of a dictionary's words that occur in the text, below which the file is in doubt.
FEW = 10


def check_dictionary(run: Run) -> None:
    """Raise ValueError where there is nothing to align."""
    if run.dictionary is None:
        natural = isinstance(run.language, NaturalLanguages)
        other = "--objective mlm" if natural else "a synthetic language with trans in its name"
        raise ValueError(
            f"{run.language.name} has no pairs of words to align: give --dictionary_file, or take "
            f"{other}"
        )
    if not run.dictionary.seen:
        raise ValueError(
            f"dictionary_fraction {run.data.dictionary_fraction} leaves no pair to learn from: "
            "raise it, or take --objective mlm"
        )


def make_tokenizer(run: Run, texts: Mapping[str, sources.Corpus]) -> tuple[Any, Languages]:
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
            return tokenizer.load_tokenizer(str(run.folder), languages), languages
    language, natural = run.language, isinstance(run.language, NaturalLanguages)
    if name := model.tokenizer_name or model.model_name_or_path:
        made = tokenizer.load_tokenizer(name, language)
        if model.extend_vocab:
            others = {other: texts[other] for other in language.names[1:]}
            old = len(made)
            made = extend_tokenizer(made, _sample(run, others), model.extend_vocab)
            if run.is_main:
                print(f"Vocabulary: {len(made) - old:,} tokens added to {old:,}", flush=True)
    else:
        sample = _sample(run, texts) if natural else sources.texts(list(texts.values()), limit=ROWS)
        size = model.vocab_size or SIZES[model.size].vocab_size
        kind, lowercase = model.tokenizer_type, model.lowercase
        made = tokenizer.train_tokenizer(
            sample, size, kind=kind, lowercase=lowercase, doubled=not natural
        )
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


def _sample(run: Run, texts: Mapping[str, sources.Corpus]) -> Iterator[str]:
    """Texts to train a tokenizer on, of all languages as training is to see them."""
    alpha = run.data.sampling_alpha
    return sources.balanced_texts(texts, alpha=alpha, limit=ROWS, seed=run.data_seed)


Parts = dict[str, BilingualDictionary]  # by pair of languages


def make_dictionary(run: Run) -> Parts:
    """Give the run the pairs of its files, or of the vocabulary and its twin; each file's apart."""
    data, language = run.data, run.language
    options: dict[str, Any] = {"fraction": data.dictionary_fraction, "seed": data.dictionary_seed}
    parts: Parts = {}
    if data.dictionary_file:
        encode = WordEncoder(run.tokenizer, language).original
        unknown = run.tokenizer.unk_token_id
        for pair, path in run.dictionary_files.items():
            parts[pair] = BilingualDictionary.from_file(path, encode, unknown_id=unknown, **options)
            if language.mapped_share:
                _check_script(path, parts[pair], run)
        run.dictionary = join(parts)
    elif isinstance(language, SyntheticLanguage) and language.mapped_share:
        pairs = tokenizer.vocabulary_pairs(run.tokenizer, language)
        run.dictionary = BilingualDictionary.from_pairs(pairs, **options)
    return parts


def count(run: Run, parts: Parts, rows: Mapping[str, sources.Corpus]) -> None:
    """Tell the dictionary how often its words occur in the tokenized texts, and what it covers."""
    synthetic = rows.get("original")
    for pair, part in parts.items():
        names = pair.split("-")
        texts = [synthetic or rows[name] for name in names]
        columns = names if synthetic else ("ids", "ids")
        if all(isinstance(text, Dataset) for text in texts):  # a stream has no end to count to
            sides = zip(part.words, texts, columns, strict=True)
            counts = [word_counts(w, text, run.tokenizer, column) for w, text, column in sides]
            parts[pair] = part.with_counts(*counts)
    if parts:
        run.dictionary = dictionary = join(parts)
        names = next(iter(parts)).split("-")
        covered = coverage(dictionary, names)
        run.results |= {f"dictionary_{name}": value for name, value in covered.items()}
        if run.is_main:
            print(coverage_line(dictionary, names), flush=True)
            if not synthetic:
                _warn_of_few_words(parts)


def _warn_of_few_words(parts: Parts) -> None:
    """Warn of words that hardly occur, as where columns or files stand in for one another."""
    for pair, part in parts.items():
        for language, occur in zip(pair.split("-"), part.counts or (), strict=False):
            if (share := 100 * sum(map(bool, occur)) / len(occur)) < FEW:
                logger.warning(
                    "Dictionary %s: %.0f %% of the %s words occur in its text: is the first column "
                    "%s, and is each text of the language that it is given for?",
                    *(pair, share, language, pair.split("-")[0]),
                )


def _check_script(path: str, dictionary: BilingualDictionary, run: Run) -> None:
    derived = {piece for _, words in dictionary.seen + dictionary.heldout for piece in words}
    if max(derived) < len(run.tokenizer) // 2:
        raise ValueError(
            f"{path} has no word of {run.language.name}: give the text of both languages as "
            "NAME=FILE, or leave --dictionary_file out"
        )

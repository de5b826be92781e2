"""Rows of sentences to both languages' token ids."""

import gc
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache, partial
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features, IterableDataset, List, Value
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from hf_alignmlm.data.formats import Corpus
from hf_alignmlm.data.rows import SENTENCES_PER_LINE, row_text, sentences
from hf_alignmlm.data.sources import map_tables
from hf_alignmlm.data.tokenizer import text_encoder
from hf_alignmlm.languages.natural import Languages
from hf_alignmlm.languages.synthetic import SyntheticLanguage

logger = logging.get_logger(__name__)

# Rows of a table tokenized at once: a batch costs by its different words more than by its words.
TOKENIZING_BATCH = 4000
# Words that are remembered at once.
WORDS_KEPT = 1 << 20
# BERT's normaliser does not change printable ASCII, and its pre-tokenizer splits it like this.
ASCII_WORDS = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]")
# What stands before a word, so that the word has the ids of running text.
BEFORE = "a"

# A row a sentence: both languages' ids, the number of pieces of each original word, the original
# word at each derived place, and the sentence's index.
_IDS = List(Value("int32"))
TOKENIZED = Features({"original": _IDS, "derived": _IDS, "pieces": List(Value("int16"))})
TOKENIZED |= {"order": _IDS, "index": Value("int64")}


def _tokenize(
    batch: pa.Table, indices: list[int], *, tokenizer: str, language: SyntheticLanguage, name: str
) -> pa.Table:
    """The sentences of a batch of rows; a row in the derived script gives the index -1 - row."""
    encoder = _encoder(tokenizer, language)
    # A text is encoded in one piece. A joined corpus may have rows of words beside it: then it is
    # split, for a batch holds texts or lists of words, not both.
    split = encoder.words if "words" in batch.column_names else None
    collects = gc.isenabled()
    # Nothing here is part of a cycle, and the search for cycles took a fifth of the time.
    gc.disable()
    try:
        found: list[tuple[Any, Any, int]] = []
        for row, number in zip(batch.to_pylist(), indices, strict=True):
            if language.uses_derived_script(row_text(row)):
                found.append(([] if split else "", None, -1 - number))
            else:
                found += sentences(row, number, split)
        texts, trees, numbers = zip(*found, strict=True) if found else ((), (), ())

        def order(words: list[str], i: int) -> list[int]:
            where = f"{name}, row {numbers[i] // SENTENCES_PER_LINE + 1}"
            return language.order(words, tree=trees[i], index=numbers[i], where=where)

        columns = encoder.encode(texts, order) | {"index": np.array(numbers, np.int64)}
    finally:
        if collects:
            gc.enable()
    table = pa.table(columns, schema=TOKENIZED.arrow_schema)
    # A text of nothing but characters that the normaliser drops has no words.
    has_words = pc.greater(pc.list_value_length(table["pieces"]), 0)
    used = pc.or_(pc.less(table["index"], 0), has_words)
    return table if pc.all(used).as_py() else table.filter(used)


def _is_sentence(name: str, reported: list[int], index: int) -> bool:
    """Whether a row of a stream is a sentence; the first skipped line is reported."""
    if index < 0 and not reported:
        reported.append(-index)
        logger.warning(
            "%s: line %d already uses the derived script; such lines are skipped", name, -index
        )
    return index >= 0


def tokenize_corpus(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    language: SyntheticLanguage,
    *,
    num_proc: int | None = None,
    name: str = "corpus",
) -> Corpus:
    """Both languages' token ids, side by side: a `TOKENIZED` row a sentence.

    Lines that already use the derived script are skipped, counted and reported with the first one's
    number; where nothing is left, that is a `ValueError`. Of a stream only the first such line is
    reported, as it is met.
    """
    backend = tokenizer.backend_tokenizer.to_str()
    options: dict[str, Any] = {"tokenizer": backend, "language": language, "name": name}
    if not isinstance(corpus, IterableDataset):
        options |= {"batch_size": TOKENIZING_BATCH, "num_proc": num_proc}
    tokenized = map_tables(corpus, _tokenize, TOKENIZED, desc=f"Tokenizing {name}", **options)
    if isinstance(tokenized, IterableDataset):
        return tokenized.filter(partial(_is_sentence, name, []), input_columns="index")
    index = tokenized.with_format("numpy")["index"][:]
    skipped = index[index < 0]
    if len(skipped):
        logger.warning(
            "%s: skipped %d line(s) that already use the derived script, the first is line %d",
            *(name, len(skipped), -skipped.max()),
        )
        tokenized = tokenized.select((index >= 0).nonzero()[0])
    if not len(tokenized):
        reason = ": all of its lines use the derived script" if len(skipped) else ""
        raise ValueError(f"{name} has no sentence left{reason}")
    return tokenized


class WordEncoder:
    """Text to words and words to token ids, for one tokenizer and its languages; words are cached.

    A word is what BERT's pre-tokenizer makes one or, with any other tokenizer, what stands between
    two spaces. It has the ids that it has within a text, with the space before it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | str, language: Languages | None = None):
        """`tokenizer` may be the JSON of a `tokenizers.Tokenizer`, to travel between processes."""
        self._spell = language.spell if isinstance(language, SyntheticLanguage) else str
        self._backend = text_encoder(
            tokenizer if isinstance(tokenizer, str) else tokenizer.backend_tokenizer.to_str()
        )
        self._model = self._backend.model
        self._bert = isinstance(self._backend.pre_tokenizer, BertPreTokenizer)
        normalizer = self._backend.normalizer
        plain = self._bert and isinstance(normalizer, BertNormalizer)
        self._cased = plain and not normalizer.lowercase
        self._units = lru_cache(maxsize=WORDS_KEPT)(self._split)
        self.original = lru_cache(maxsize=WORDS_KEPT)(self._original)
        self._before = 0 if self._bert else len(self._ids(self._split(BEFORE)))
        self._forget()

    def words(self, text: str) -> list[str]:
        """The words of a text, of BERT's as its own normaliser and pre-tokenizer see them."""
        if not self._bert:
            return text.split()
        # Neither looks past a space, and most of what stands between two spaces is cached.
        return list(chain.from_iterable(map(self._units, text.split(" "))))

    def _split(self, text: str) -> list[str]:
        if self._cased and text.isascii() and text.isprintable():
            return ASCII_WORDS.findall(text)
        normalizer, pre_tokenizer = self._backend.normalizer, self._backend.pre_tokenizer
        text = normalizer.normalize_str(text) if normalizer else text
        return (
            [unit for unit, _ in pre_tokenizer.pre_tokenize_str(text)] if pre_tokenizer else [text]
        )

    def _ids(self, words: Iterable[str]) -> tuple[int, ...]:
        # The model alone tokenizes, so that a literal "[MASK]" in a text stays text.
        return tuple([token.id for word in words for token in self._model.tokenize(word)])

    def _original(self, word: str) -> tuple[int, ...]:
        if self._bert:
            return self._ids(self._split(word))
        return tuple(chain.from_iterable(self.units(word)))

    def units(self, word: str) -> list[tuple[int, ...]]:
        """The ids of each part that the pre-tokenizer makes of a word; no piece spans two parts."""
        if self._bert:
            return [self._ids([unit]) for unit in self._split(word)]
        first, *others = (self._ids([unit]) for unit in self._split(f"{BEFORE} {word}"))
        return [unit for unit in (first[self._before :], *others) if unit] if word.strip() else []

    def derived(self, word: str) -> tuple[int, ...]:
        """The ids of an original word, spelled as the derived language spells it."""
        return self._ids(map(self._spell, self._split(word)))

    def encode(
        self,
        sentences: Sequence[str] | Sequence[Sequence[str]],
        order: Callable[[list[str], int], Sequence[int]],
    ) -> dict[str, pa.ListArray]:
        """Sentences to the first four columns of `TOKENIZED`.

        Sentences are texts, or lists of words that stay as they are. `order(words, i)` gives the
        order of the i-th. What stands between two spaces is looked up once a batch, as a number;
        the rest is arithmetic on arrays.
        """
        if len(self._words) > WORDS_KEPT:
            self._forget()
        if all(isinstance(sentence, str) for sentence in sentences):
            parts = pc.split_pattern(pa.array(sentences, pa.string()), " ")
            numbers, _, ends = self._texts.take(_numbers(parts.flatten(), self._text))
            bounds = ends[parts.offsets.to_numpy()]
        else:
            parts = pa.array(sentences, pa.list_(pa.string()))
            numbers, bounds = _numbers(parts.flatten(), self._word), parts.offsets.to_numpy()
        words = list(map(self._words.__getitem__, numbers.tolist()))
        orders = [order(words[a:b], i) for i, (a, b) in enumerate(pairwise(bounds.tolist()))]
        places = np.fromiter(chain.from_iterable(orders), np.int32, len(numbers))
        # Places count from the sentence's start: with bounds [0, 3, 5] the order [2, 1, 0, 1, 0]
        # takes the words [2, 1, 0, 4, 3].
        reordered = numbers[places + np.repeat(bounds[:-1], np.diff(bounds))]
        original, pieces, starts = self._original_ids.take(numbers)
        derived, _, derived_starts = self._derived_ids.take(reordered)
        columns = {
            "original": (starts[bounds], original),
            "derived": (derived_starts[bounds], derived),
            "pieces": (bounds, pieces.astype(np.int16)),
            "order": (bounds, places),
        }
        return {
            name: pa.ListArray.from_arrays(offsets.astype(np.int32), pa.array(values))
            for name, (offsets, values) in columns.items()
        }

    def _forget(self) -> None:
        # Words have numbers, and so have texts between spaces, whose rows are their words' numbers.
        self._words: list[str] = []
        self._texts, self._original_ids, self._derived_ids = _Rows(), _Rows(), _Rows()
        self._text, self._word = cache(self._add_text), cache(self._add_word)

    def _add_text(self, text: str) -> int:
        return self._texts.append([self._word(word) for word in self._split(text)])

    def _add_word(self, word: str) -> int:
        self._words.append(word)
        self._derived_ids.append(self.derived(word))
        return self._original_ids.append(self._original(word))


_encoder = lru_cache(maxsize=4)(WordEncoder)


def _numbers(strings: pa.StringArray, number: Callable[[str], int]) -> np.ndarray:
    """The number of each string; `number` is called once for each different one."""
    encoded = strings.dictionary_encode()
    numbers = np.fromiter(map(number, encoded.dictionary.to_pylist()), np.int64)
    return numbers[encoded.indices.to_numpy()]


class _Rows:
    """Rows of integers of any length, end to end; added one by one, read many at once."""

    def __init__(self) -> None:
        self.values, self.ends = array("i"), array("q", [0])

    def append(self, row: Sequence[int]) -> int:
        """Add a row and return its number."""
        self.values.extend(row)
        self.ends.append(len(self.values))
        return len(self.ends) - 2

    def take(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows of these numbers, end to end, their sizes, and where each starts and ends."""
        values, ends = np.frombuffer(self.values, np.int32), np.frombuffer(self.ends, np.int64)
        sizes = ends[numbers + 1] - ends[numbers]
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        places = np.repeat(ends[numbers] - bounds[:-1], sizes) + np.arange(bounds[-1])
        return values[places], sizes, bounds

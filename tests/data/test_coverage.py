"""How often words occur in tokenized text, and what a dictionary covers."""

import gzip
from collections import Counter
from itertools import islice

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from hf_alignmlm.data import coverage as module
from hf_alignmlm.data.coverage import coverage, coverage_line, word_counts
from hf_alignmlm.data.dictionary import BilingualDictionary, join
from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.tokenizer import train_tokenizer
from hf_alignmlm.languages.synthetic import SyntheticLanguage

WORDPIECE = ["[UNK]", "cat", "##s", "a", "##a", ",", "hot", "##e"]


def tokenizer(vocabulary, model=models.WordPiece):
    table = {token: i for i, token in enumerate(vocabulary)}
    options = (
        {"vocab": table, "unk_token": vocabulary[0]}
        if model is models.WordPiece
        else {"vocab": [(token, 0.0) for token in vocabulary], "unk_id": 0}
    )
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model(**options)))


def rows(*ids):
    return Dataset.from_dict({"ids": [list(row) for row in ids], "index": list(range(len(ids)))})


def slow_counts(words, texts, goes_on):
    counts = Counter()
    for text in texts:
        for start in range(len(text)):
            for word in set(words):
                end = start + len(word)
                if tuple(text[start:end]) == word and (
                    end == len(text) or text[end] not in goes_on
                ):
                    counts[word] += 1
    return [counts[word] for word in words]


pieces = st.integers(0, len(WORDPIECE) - 1)
words = st.lists(st.lists(pieces, min_size=1, max_size=4).map(tuple), unique=True, max_size=12)
texts = st.lists(st.lists(pieces, max_size=12), min_size=1, max_size=6)


@settings(deadline=None, max_examples=50)
@given(words=words, texts=texts, batch=st.integers(1, 7))
def test_words_and_phrases_are_counted_as_one_by_one(words, texts, batch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BATCH", batch)
        found = word_counts(words, rows(*texts), tokenizer(WORDPIECE))
    assert found == slow_counts(words, texts, {2, 4, 7})


def test_a_row_that_was_left_out_is_not_counted():
    some = rows([1], [3], [1, 3]).select([2, 0])
    assert word_counts([(1,), (3,), (1, 3)], some, tokenizer(WORDPIECE)) == [2, 1, 1]


@pytest.mark.parametrize(
    "vocabulary",
    [
        ["<unk>", "▁cat", "s", ",", "▁a", "é", "ि"],
        ["<unk>", "Ġcat", "s", ",", "Ġa", "Ã©", "à"],
    ],
)
def test_a_word_ends_where_a_piece_with_a_space_or_a_mark_begins(vocabulary):
    one = tokenizer(vocabulary, models.Unigram)
    text = rows([1], [1, 2], [1, 3, 2], [1, 4], [1, 5], [1, 6], [1, 2, 1])
    assert word_counts([(1,), (1, 2), (1, 4)], text, one) == [4, 2, 1]


DICTIONARY = BilingualDictionary.from_pairs(
    [(1, 1), (1, (5, 6)), ((2, 3), 7)], skipped={"columns": 2, "unknown": 1, "repeated": 0}
)


def test_coverage_is_told_in_numbers_and_in_a_line():
    assert coverage(DICTIONARY, ("en", "fr")) == {
        "pairs": 3,
        "pairs_linked": 0,
        "pairs_identical": 1,
        "one_piece_share": pytest.approx(100 / 3),
        **{"skipped_columns": 2, "skipped_unknown": 1, "skipped_repeated": 0},
        **{"en_words": 2, "en_pieces": 1.5, "fr_words": 3, "fr_pieces": pytest.approx(4 / 3)},
    }
    counted = DICTIONARY.with_counts([10, 4], [0, 0, 6])
    found = coverage(counted, ("en", "fr"))
    assert (found["en_in_text"], found["en_occurrences"]) == (100, 7)
    assert (found["fr_in_text"], found["fr_occurrences"]) == (pytest.approx(100 / 3), 6)
    assert coverage_line(DICTIONARY, ("en", "fr")) == (
        "Dictionary en-fr: 3 pairs (1 identical), 3 unusable lines (2 columns, 1 unknown); "
        "2 en words of 1.5 pieces; 3 fr words of 1.3 pieces"
    )
    both = join({"en-fr": DICTIONARY, "en-hi": BilingualDictionary.from_pairs([(1, 2)])})
    assert coverage(both, ("en", "fr", "hi"))["en-fr_fr_words"] == 3
    assert coverage_line(both, ("en", "fr", "hi")).splitlines()[1] == (
        "Dictionary en-hi: 1 pairs (0 identical), 0 unusable lines; 1 en words of 1.0 pieces; "
        "1 hi words of 1.0 pieces"
    )


def test_words_of_real_text_are_counted_as_they_stand_in_it(data_folder):
    with gzip.open(data_folder / "natural" / "en.train.txt.gz", "rt", encoding="utf-8") as file:
        lines = list(islice(file, 300))
    one = train_tokenizer(lines, 2000)
    encoder = WordEncoder(one, SyntheticLanguage("inv"))
    text = [encoder.words(line) for line in lines]
    expected = Counter(encoder.original(word) for line in text for word in line)
    ids = rows(*([i for word in line for i in encoder.original(word)] for line in text))
    found = word_counts(list(expected), ids, one)
    assert dict(zip(expected, found, strict=True)) == expected
    assert max(map(len, expected)) > 3

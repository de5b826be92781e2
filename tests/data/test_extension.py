"""New vocabulary for an old checkpoint: ids, old text, and what new rows start as."""

import json
from collections import Counter
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerFast

from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.extension import extend_tokenizer, initial_rows
from hf_alignmlm.data.subwords import SPECIAL_TOKENS
from hf_alignmlm.data.tokenizer import load_tokenizer, train_tokenizer
from hf_alignmlm.languages.natural import NaturalLanguages

LANGUAGES = NaturalLanguages(("en", "fr"))
KINDS = ("wordpiece", "unigram", "bpe")
FRENCH = [
    "L'été , les élèves lisaient « Les Misérables » de Victor Hugo .",
    "Les fermiers de la forêt nourrissaient les oiseaux de la forêt .",
    "La chanson de l'été : où est le fermier , où est la forêt ?",
] * 5
NEW = 40


@pytest.fixture(scope="module")
def english(embedded):
    return [" ".join(s.words) for s in embedded[:400]]


@pytest.fixture(scope="module")
def old(english):
    return {kind: train_tokenizer(english, 500, kind=kind, doubled=False) for kind in KINDS}


@pytest.fixture(scope="module")
def new(old):
    return {kind: extend_tokenizer(old[kind], FRENCH, NEW) for kind in KINDS}


def ids(tokenizer, texts):
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def length(tokenizer, texts):
    return sum(map(len, ids(tokenizer, texts)))


@pytest.mark.parametrize("kind", KINDS)
def test_old_ids_stay_and_new_ones_follow(old, new, kind):
    before, after = old[kind].get_vocab(), new[kind].get_vocab()
    assert {token: after[token] for token in before} == before
    assert sorted(after.values()) == list(range(len(new[kind])))
    assert len(old[kind]) < len(new[kind]) <= len(old[kind]) + NEW
    assert new[kind].all_special_ids == old[kind].all_special_ids
    assert new[kind].model_input_names == old[kind].model_input_names


@pytest.mark.parametrize("kind", KINDS)
def test_new_text_takes_fewer_pieces_and_has_nothing_unknown(old, new, kind):
    assert length(new[kind], FRENCH) < 0.8 * length(old[kind], FRENCH)
    assert new[kind].unk_token_id not in chain.from_iterable(ids(new[kind], FRENCH))
    used = Counter(chain.from_iterable(ids(new[kind], FRENCH)))
    assert sum(i >= len(old[kind]) for i in used) > NEW / 3


@pytest.mark.parametrize("kind", KINDS)
def test_auto_tokenizer_gives_the_same_ids(tmp_path, new, kind, english):
    new[kind].save_pretrained(tmp_path)
    texts = [*english[:50], *FRENCH, "a [MASK] b"]
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path, LANGUAGES)):
        assert loaded(texts)["input_ids"] == new[kind](texts)["input_ids"]
        assert loaded.get_vocab() == new[kind].get_vocab()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_text_gives_the_same_pieces(old, new, kind):
    again = extend_tokenizer(old[kind], iter(FRENCH), NEW)
    assert again.backend_tokenizer.to_str() == new[kind].backend_tokenizer.to_str()


@given(text=st.text(st.sampled_from("aeioulrstnéèfmLa ,'"), max_size=40))
@settings(max_examples=150)
def test_bpe_merges_its_old_pieces_further(old, new, text):
    """The borders between new pieces are among those between old ones, in any text."""
    borders = []
    for tokenizer in (old["bpe"], new["bpe"]):
        tokens = tokenizer.convert_ids_to_tokens(ids(tokenizer, text))
        borders.append([sum(map(len, tokens[:n])) for n in range(len(tokens) + 1)])
    assert set(borders[1]) <= set(borders[0])


@pytest.mark.parametrize("kind", KINDS)
def test_old_text_keeps_its_pieces_where_no_new_one_fits(old, new, kind, english):
    """A sentence changes only if a new piece is in it."""
    pairs = zip(ids(old[kind], english), ids(new[kind], english), strict=True)
    same = [a == b for a, b in pairs if max(b) < len(old[kind])]
    assert len(same) > 10
    assert kind != "bpe" or all(same)


def test_added_tokens_keep_their_ids(tmp_path, english):
    """Those that are not the model's own would else move behind the new pieces."""
    for kind in KINDS:
        tokenizer = train_tokenizer(english, 500, kind=kind, doubled=False)
        tokenizer.add_tokens([AddedToken("<user>", special=False)])
        tokenizer.add_special_tokens({"extra_special_tokens": ["<turn>"]})
        extended = extend_tokenizer(tokenizer, FRENCH, NEW)
        extended.save_pretrained(tmp_path / kind)
        for one in (extended, AutoTokenizer.from_pretrained(tmp_path / kind)):
            assert one.convert_tokens_to_ids(["<user>", "<turn>"]) == [500, 501]
            assert 501 in one.all_special_ids
            assert {500, 501} <= set(one("a <user> b <turn>")["input_ids"])
            assert len(one) > 502


def test_texts_without_a_new_piece_are_refused(old):
    with pytest.raises(ValueError, match="gives no new piece"):
        extend_tokenizer(old["bpe"], ["xq"], NEW)


def test_a_model_without_pieces_is_refused():
    model = models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **SPECIAL_TOKENS)
    with pytest.raises(ValueError, match="a WordLevel tokenizer cannot be extended"):
        extend_tokenizer(tokenizer, FRENCH, NEW)


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_piece_without_translation_starts_as_its_old_pieces(old, new, kind):
    """By a slow way: the whole words among the new pieces, in the old tokenizer's running text."""
    rows = initial_rows(old[kind], new[kind])
    encoders = [WordEncoder(one[kind], LANGUAGES) for one in (old, new)]
    seen = 0
    assert len(rows) == len(new[kind]) - len(old[kind])
    for word in {word for text in FRENCH for word in encoders[0].words(text)}:
        before, after = (encoder.original(word) for encoder in encoders)
        if len(after) == 1 and after[0] >= len(old[kind]) and old[kind].unk_token_id not in before:
            counts = Counter(before)
            expected = {i: n / len(before) for i, n in counts.items()}
            assert rows[after[0] - len(old[kind])] == pytest.approx(expected), word
            seen += 1
    assert seen > 3
    for row in rows:
        assert not row or sum(row.values()) == pytest.approx(1)
        assert all(0 <= i < len(old[kind]) for i in row)


def test_inner_pieces_and_unknown_characters_of_wordpiece():
    def wordpiece(tokens):
        backend = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="U"))
        return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="U")

    first = ["U", "n", "##n", "##na", "##a", "##v", "##ve", "#", "##e"]
    old = wordpiece(first)
    new = wordpiece([*first, "##naïve", "naïve", "ïna", "ï", "##ï", "##nav"])
    expected = [
        {3: 0.5, 6: 0.5},
        {1: 1 / 3, 4: 1 / 3, 6: 1 / 3},
        {3: 1.0},
        {},
        {},
        {3: 0.5, 5: 0.5},
    ]
    assert initial_rows(old, new) == [pytest.approx(row) for row in expected]


def test_a_translated_word_starts_as_its_translations(old, new):
    """A translation counts the less, the more translations it has itself."""
    before, after = old["bpe"], new["bpe"]
    size = len(before)
    encode = WordEncoder(after, LANGUAGES).original
    words = {encode(word) for text in FRENCH for word in text.split()}
    forest, summer = sorted(word for word in words if len(word) == 1 and word[0] >= size)[:2]
    one, other, several = (7,), (8,), (9, 10)
    pairs = [
        (one, forest),
        (several, forest),
        (several, (20,)),
        (several, (21, 22)),
        (several, (23,)),
        (other, (forest[0], 5)),  # the word is a part of this one
        (summer, (24,)),  # new, and on the source's side
    ]
    rows, plain = initial_rows(before, after, pairs), initial_rows(before, after)
    # Weights 1 and 1/4, the latter on two pieces.
    assert rows[forest[0] - size] == pytest.approx({7: 0.8, 9: 0.1, 10: 0.1})
    changed = {n for n, row in enumerate(rows) if row != plain[n]}
    assert changed == {forest[0] - size}
    # A translation that is itself new stands for its old pieces.
    through = initial_rows(before, after, [(summer, forest)])
    assert through[forest[0] - size] == pytest.approx(plain[summer[0] - size])


def test_added_scores_are_log_probabilities(old, new):
    before, after = (json.loads(t["unigram"].backend_tokenizer.to_str()) for t in (old, new))
    pieces = after["model"]["vocab"]
    assert pieces[: len(before["model"]["vocab"])] == before["model"]["vocab"]
    assert all(-20 < score < 0 for _, score in pieces[len(before["model"]["vocab"]) :])


def test_a_merge_that_is_there_keeps_its_rank():
    """Of "ab" and "c" comes the old "abc", whose merge with "d" is an old one as well."""
    merges = [("a", "b"), ("b", "c"), ("a", "bc"), ("abc", "d")]
    tokens = ["[UNK]", *"abcde", *("".join(merge) for merge in merges)]
    model = models.BPE({t: i for i, t in enumerate(tokens)}, merges, unk_token="[UNK]")
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    old = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    new = extend_tokenizer(old, ["abcd abcde abc"] * 3, 5)
    found = json.loads(new.backend_tokenizer.to_str())["model"]["merges"]
    assert found == [*map(list, merges), ["ab", "c"], ["abcd", "e"]]
    assert new.tokenize("abcd") == ["abcd"]

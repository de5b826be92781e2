"""The dictionary: shares, seeds, files of word pairs, its own file, and means of pieces."""

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import chain
from unicodedata import normalize

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_alignmlm.data.dictionary import BilingualDictionary, WordPieces, join, mean_of_pieces
from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.tokenizer import train_tokenizer, vocabulary_pairs
from hf_alignmlm.languages.synthetic import SyntheticLanguage

ids = st.integers(0, 99)
pieces = st.lists(ids, min_size=1, max_size=3).map(tuple)
pairs = st.lists(st.tuples(ids | pieces, ids | pieces), min_size=1, max_size=40)
fractions = st.floats(0, 1)


def as_pieces(word):
    return (word,) if isinstance(word, int) else word


# --- the draw -------------------------------------------------------------------------------------


@given(pairs=pairs, fraction=fractions, seed=st.integers(0, 2**40))
def test_seen_and_held_out_part_the_pairs_by_their_originals(pairs, fraction, seed):
    dictionary = BilingualDictionary.from_pairs(pairs, fraction=fraction, seed=seed)
    distinct = {(as_pieces(a), as_pieces(b)) for a, b in pairs}
    groups = dictionary.seen, dictionary.heldout, dictionary.linked
    assert sorted(chain(*groups)) == sorted(distinct)
    assert len(dictionary) == len(dictionary.seen) + len(dictionary.heldout)
    (seen, learned), (heldout, unseen), (others, linked) = (
        [{pair[side] for pair in group} for side in (0, 1)] for group in groups
    )
    assert not seen & (heldout | others)
    assert not learned & unseen
    assert linked <= learned
    assert abs(len(seen) - fraction * len({a for a, _ in distinct})) <= 0.5 + 1e-9


def test_the_draw_of_a_vocabulary_is_what_it_was():
    """Runs of before draw the same pairs again."""
    dictionary = BilingualDictionary.from_pairs(
        [(i, i + 9) for i in range(9)], fraction=0.4, seed=3
    )
    assert [a for (a,), _ in dictionary.seen] == [0, 3, 4, 8]
    assert not dictionary.linked


@pytest.mark.parametrize(
    ("fraction", "seen"), [(0, 0), (0.25, 25), (0.5, 50), (0.999, 100), (1, 100)]
)
def test_the_fraction_is_drawn_without_replacement(fraction, seen):
    dictionary = BilingualDictionary.from_pairs(
        [(i, i + 100) for i in range(100)], fraction=fraction
    )
    assert len(dictionary.seen) == len(set(dictionary.seen)) == seen
    assert len(dictionary.heldout) == 100 - seen


def test_the_draw_is_one_of_all_and_changes_with_the_seed():
    counts = [0] * 20
    for seed in range(400):
        drawn = BilingualDictionary.from_pairs(
            [(i, i) for i in range(20)], fraction=0.25, seed=seed
        ).seen
        for (word,), _ in drawn:
            counts[word] += 1
    assert all(60 < count < 140 for count in counts)


@given(pairs=pairs, fraction=fractions)
def test_the_draw_does_not_depend_on_the_order_of_the_pairs(pairs, fraction):
    one = BilingualDictionary.from_pairs(pairs, fraction=fraction)
    other = BilingualDictionary.from_pairs(reversed(pairs), fraction=fraction)
    assert set(one.seen) == set(other.seen)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, 25, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(ValueError, match="dictionary_fraction must lie between 0 and 1, not"):
        BilingualDictionary.from_pairs([(1, 2)], fraction=fraction)


def test_no_pairs_are_refused():
    with pytest.raises(ValueError, match="needs at least one pair"):
        BilingualDictionary.from_pairs([])


SCRIPT = """
from hf_alignmlm.data.dictionary import BilingualDictionary
pairs = [((i, i + 1), j) for i in range(50) for j in (100, 200 + i)]
dictionary = BilingualDictionary.from_pairs(pairs, fraction=0.3, seed=7)
dictionary.save_pretrained(__import__("sys").argv[1])
"""


def test_every_process_draws_the_same_pairs(tmp_path):
    subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        check=True,
    )
    here = BilingualDictionary.from_pairs(
        [((i, i + 1), j) for i in range(50) for j in (100, 200 + i)], fraction=0.3, seed=7
    )
    assert BilingualDictionary.from_pretrained(tmp_path) == here
    assert len(here.seen) == 30


def test_dict_mlm_gets_the_seen_pairs_of_one_piece_each():
    dictionary = BilingualDictionary(
        seen=(((1,), (2,)), ((1,), (3,)), ((1, 4), (2,)), ((5,), (6, 7))), heldout=(((8,), (9,)),)
    )
    assert dictionary.single_piece_pairs() == [(1, 2), (1, 3)]


# --- what a word weighs, and several pairs of languages -------------------------------------------


@given(pairs=pairs, fraction=fractions)
def test_each_original_word_weighs_the_same(pairs, fraction):
    dictionary = BilingualDictionary.from_pairs(pairs, fraction=fraction)
    weights = Counter()
    for (original, _), weight in zip(dictionary.seen, dictionary.weights(), strict=True):
        weights[original] += weight
    assert all(weight == pytest.approx(1) for weight in weights.values())


COUNTED = BilingualDictionary.from_pairs([(1, 5), (1, 6), (2, 7), ((3, 4), 7)]).with_counts(
    [8, 0, 3], [1, 2, 3]
)


def test_a_word_weighs_as_often_as_it_occurs_but_at_least_once():
    assert COUNTED.weights() == [0.5, 0.5, 1, 1]
    assert COUNTED.weights("frequency") == [4, 4, 1, 3]
    with pytest.raises(ValueError, match="unknown alignment_word_weights 'odd': known are uniform"):
        COUNTED.weights("odd")
    with pytest.raises(ValueError, match="knows how often its words occur: give --dictionary_file"):
        BilingualDictionary.from_pairs([(1, 2)]).weights("frequency")
    with pytest.raises(ValueError, match="counts must be one a word"):
        COUNTED.with_counts([8, 0], [1, 2, 3])


def test_joined_dictionaries_are_one_that_knows_its_parts(tmp_path):
    other = BilingualDictionary.from_pairs([(1, 9), (2, 9), (3, 8)], fraction=0.3, seed=1)
    assert other.linked or other.heldout
    joined = join({"en-fr": COUNTED, "en-hi": other})
    assert joined.seen == COUNTED.seen + other.seen
    assert joined.pairs == (*joined.seen, *other.heldout, *other.linked)
    assert joined.weights() == COUNTED.weights() + other.weights()
    assert joined.single_piece_pairs() == [(1, 5), (1, 6), (2, 7), *other.single_piece_pairs()]
    joined.save_pretrained(tmp_path)
    read = BilingualDictionary.from_pretrained(tmp_path)
    assert read == joined
    assert dict(read.parts) == {"en-fr": COUNTED, "en-hi": other}
    assert join({"en-fr": COUNTED}) is COUNTED


# --- its own file ---------------------------------------------------------------------------------


@given(pairs=pairs, fraction=fractions, seed=st.integers(0, 9))
def test_a_dictionary_comes_back_from_its_file(tmp_path_factory, pairs, fraction, seed):
    folder = tmp_path_factory.mktemp("dictionary")
    dictionary = BilingualDictionary.from_pairs(
        pairs,
        fraction=fraction,
        seed=seed,
    )
    dictionary.save_pretrained(folder)
    for path in (folder, folder / "dictionary.json", str(folder)):
        assert BilingualDictionary.from_pretrained(path) == dictionary


DAMAGED = '{"version": 1, "fraction": %s, "seed": %s, "seen": [%s], "heldout": []}'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is not a dictionary of this library"),
        ("3", "is not a dictionary of this library"),
        ("{}", "is not a dictionary of this library"),
        ('{"version": 9}', "version 9, not 1"),
        ('{"version": 1, "seen": [[1]], "heldout": []}', "is not a dictionary of this library"),
        *(
            (
                DAMAGED % damage,
                f"is not a dictionary of this library: {reason}",
            )
            for damage, reason in (
                (("1", "0", "[[-1], [2]]"), "its pairs are not of token ids"),
                (("1", "0", '["a", [2]]'), "its pairs are not of token ids"),
                (("1", "0", '[[1], ["2"]]'), "its pairs are not of token ids"),
                (("1", "0", "[[1.5], [2]]"), "its pairs are not of token ids"),
                (("1", "0", "[[true], [2]]"), "its pairs are not of token ids"),
                (("1", "0", "[[1], []]"), "its pairs are not of token ids"),
                (("1", "0", ""), "its pairs are not of token ids"),
                (("1", "0", "[[1], null]"), ""),
                (("2", "0", "[[1], [2]]"), "its fraction or seed is no such number"),
                (("NaN", "0", "[[1], [2]]"), "its fraction or seed is no such number"),
                (('"1"', "0", "[[1], [2]]"), ""),
                (("1", '"0"', "[[1], [2]]"), "its fraction or seed is no such number"),
                (("1", '0, "counts": [[1], [-1]]', "[[1], [2]]"), "its counts are no such"),
                (("1", '0, "counts": [[1, 1], [1]]', "[[1], [2]]"), "counts must be one a word"),
                (("1", '0, "counts": [[1]]', "[[1], [2]]"), ""),
                (("1", '0, "linked": [[[3], []]]', "[[1], [2]]"), "its pairs are not of token ids"),
                (("1", '0, "parts": []', "[[1], [2]]"), ""),
            )
        ),
    ],
)
def test_another_file_is_an_error_that_names_it(tmp_path, text, reason):
    path = tmp_path / "dictionary.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as caught:
        BilingualDictionary.from_pretrained(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# --- files of word pairs --------------------------------------------------------------------------

WORDS = {"cat": [1], "dog": [2], "chat": [3], "chien": [4], "matou": [5, 6], "hot": [7], "é": [8]}
UNKNOWN = 0


def encode(text):
    return [i for word in text.split() for i in WORDS.get(word, [UNKNOWN])]


def read(path, text, **options):
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return BilingualDictionary.from_file(path, encode, unknown_id=UNKNOWN, **options)


@pytest.mark.parametrize("name", ["pairs.txt", "pairs.txt.gz"])
def test_columns_are_parted_by_tab_or_white_space(tmp_path, name):
    text = "cat\tchat\r\n\n  dog   chien \nhot dog\tchien chat\ncat \u00a0 matou\ndog\t é \n"
    dictionary = read(tmp_path / name, text)
    assert dictionary.seen == (
        ((1,), (3,)),
        ((2,), (4,)),
        ((7, 2), (4, 3)),
        ((1,), (5, 6)),
        ((2,), (8,)),
    )
    assert not any(dictionary.skipped.values())


def test_unusable_lines_are_skipped_and_counted(tmp_path):
    unusable = ["cat", "cat chat dog", "cat\tchat\tdog", "cat\tunknown", "unknown chat", "cat\t"]
    unusable += ["\tchat", "hot unknown\tchat", "cat\t \tchat", "cat chat", "cat\tchat"]
    dictionary = read(tmp_path / "pairs.txt", "\n".join(["cat chat", *unusable, "", "dog chien"]))
    assert dictionary.seen == (((1,), (3,)), ((2,), (4,)))
    assert dictionary.skipped == {"columns": 6, "empty": 0, "unknown": 3, "repeated": 2}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_words_are_the_same(tmp_path, form):
    text = normalize(form, "cat\té\ncat\tété") + "\n" + "cat\té"
    dictionary = read(tmp_path / "pairs.txt", text)
    assert dictionary.seen == (((1,), (8,)),)
    assert dictionary.skipped == {"columns": 0, "empty": 0, "unknown": 1, "repeated": 1}
    # A vocabulary of decomposed text spells these in one piece.
    ids = {normalize("NFD", "é"): [8], "cat": [1], "é": [0]}
    assert BilingualDictionary.from_file(
        tmp_path / "pairs.txt", lambda word: ids.get(word, [0]), unknown_id=0
    ).seen == (((1,), (8,)),)


def test_what_stands_between_commas_or_semicolons_is_part_of_a_phrase(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("cat\tchat; matou\ndog\tchien, chat\n")
    dictionary = BilingualDictionary.from_file(path, lambda text: [len(text)])
    assert dictionary.seen == (((3,), (11,)),)  # the whole column, twice
    assert dictionary.skipped["repeated"] == 1


def test_translations_of_a_word_fall_on_one_side(tmp_path):
    text = "cat chat\ndog chien\ncat matou\ncat chat\n"
    sides = set()
    for seed in range(20):
        dictionary = read(tmp_path / "pairs.txt", text, fraction=0.5, seed=seed)
        assert len(dictionary) == 3
        assert (len(dictionary.seen), len(dictionary.heldout)) in {(2, 1), (1, 2)}
        sides.add(dictionary.seen)
    assert len(sides) == 2


@pytest.mark.parametrize("text", ["", "\n\n", "cat\n", "unknown words\n", "one two three\n"])
def test_a_file_with_no_usable_line_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"pairs\.txt has no usable line") as caught:
        read(tmp_path / "pairs.txt", text)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"pairs\.txt, line 2, is not UTF-8 text"):
        read(tmp_path / "pairs.txt", "cat chat\né chat\n".encode("latin-1"))


def test_a_byte_order_mark_is_no_part_of_a_word(tmp_path):
    assert read(tmp_path / "pairs.txt", "\ufeffcat chat\n").seen == (((1,), (3,)),)


def test_words_are_spelled_by_a_tokenizer(tmp_path, doubled):
    """As the script does it: each word to its pieces, the derived ones in their script."""
    tokenizer, language = doubled
    encoder = WordEncoder(tokenizer, language)
    path = tmp_path / "pairs.txt"
    path.write_text(f"The {language.spell('The')}\nfarmers {language.spell('farmers')}\nЖ x\n")
    dictionary = BilingualDictionary.from_file(
        path, encoder.original, unknown_id=tokenizer.unk_token_id
    )
    assert dictionary.skipped["unknown"] == 1
    for original, derived in dictionary.seen:
        assert [i + 600 for i in original] == list(derived)


def test_real_word_pairs(data_folder):
    path = data_folder / "dictionaries" / "en-fr.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [line for line in file if not line.isspace()]
    encode = WordEncoder(train_tokenizer(lines, 1000), SyntheticLanguage("inv")).original
    dictionary = BilingualDictionary.from_file(path, encode, unknown_id=1, fraction=0.5)
    # Some lines are there twice, or differ in nothing that a tokenizer sees.
    assert sum(dictionary.skipped.values()) < len(lines) / 50
    assert len(dictionary.pairs) == len(lines) - sum(dictionary.skipped.values())
    assert len(dictionary.linked) < len(dictionary.heldout) / 100
    for side in (0, 1):
        seen, heldout = ({p[side] for p in g} for g in (dictionary.seen, dictionary.heldout))
        assert not seen & heldout


def test_all_of_a_vocabulary_can_be_a_dictionary(doubled):
    dictionary = BilingualDictionary.from_pairs(vocabulary_pairs(*doubled), fraction=0.5, seed=1)
    assert len(dictionary) == 595
    assert len(dictionary.seen) == 298
    assert all(b == a + 600 for a, b in dictionary.single_piece_pairs())


# --- means of pieces ------------------------------------------------------------------------------


@given(words=st.lists(pieces, max_size=20))
def test_a_word_is_the_mean_of_its_pieces(words):
    embeddings = torch.randn(100, 5, dtype=torch.float64)
    module = WordPieces(words)
    means = [embeddings[list(word)].mean(0) for word in words]
    expected = torch.stack(means) if words else torch.zeros(0, 5, dtype=torch.float64)
    torch.testing.assert_close(module(embeddings), expected)
    assert not module.state_dict()


def test_gradients_reach_every_piece_in_its_share():
    embeddings = torch.randn(6, 4, requires_grad=True)
    WordPieces([(0,), (1, 2), (2, 3, 4)])(embeddings).sum().backward()
    share = torch.tensor([1, 1 / 2, 1 / 2 + 1 / 3, 1 / 3, 1 / 3, 0])
    torch.testing.assert_close(embeddings.grad, share[:, None].expand(-1, 4))


@given(words=st.lists(pieces, min_size=1, max_size=20), data=st.data())
def test_some_words_are_taken_as_from_all(words, data):
    numbers = torch.tensor(
        data.draw(st.lists(st.integers(0, len(words) - 1), max_size=9)), dtype=int
    )
    embeddings, module = torch.randn(100, 5), WordPieces(words)
    taken = mean_of_pieces(embeddings, *module.take(numbers))
    torch.testing.assert_close(taken, module(embeddings)[numbers])


def test_the_file_is_plain_json(tmp_path):
    BilingualDictionary.from_pairs([(1, 2), ((3, 4), 5)]).save_pretrained(tmp_path)
    data = json.loads((tmp_path / "dictionary.json").read_text())
    assert data["seen"] == [[[1], [2]], [[3, 4], [5]]]

"""Synthetic languages: the laws of orders and spellings, names and files."""

import json
import os
import pickle
import random
import subprocess
import sys

import pytest
from datasets.fingerprint import Hasher
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.normalizers import BertNormalizer

from hf_alignmlm.languages.orders import FINAL_MARKS, ORDERS
from hf_alignmlm.languages.orders import order as register_order
from hf_alignmlm.languages.spelling import DERIVED_CHARACTERS, is_punctuation, spelling
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.languages.word_order import WordOrderModel

NAMES = ("trans", "inv", "perm", "trans_inv", "trans_perm", "trans50", "trans25_inv_perm")
from_name = SyntheticLanguage.from_name

# Words of anything but the derived scripts, surrogates and white space; often a final mark.
words = st.text(
    st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]).filter(
        lambda c: c not in DERIVED_CHARACTERS
    ),
    min_size=1,
    max_size=12,
)
sentences = st.lists(words | st.sampled_from(["the", "cat", "don't", *FINAL_MARKS]), max_size=12)
indices = st.integers(0, 10**9)


class Tree:
    """A tree from columns, and one whose words stand in another order, put together by hand."""

    def __init__(self, heads, deprels, upos):
        self.heads, self.deprels, self.upos = heads, deprels, upos

    def reordered(self, order):
        place = {old + 1: new + 1 for new, old in enumerate(order)} | {0: 0}
        return Tree(
            [place[self.heads[i]] for i in order],
            [self.deprels[i] for i in order],
            [self.upos[i] for i in order],
        )


@pytest.fixture(scope="module")
def trees(embedded):
    return [(s.words, Tree(s.heads, s.deprels, s.upos)) for s in embedded[:300]]


# --- orders ---------------------------------------------------------------------------------------


@given(sentence=sentences, index=indices)
def test_every_order_is_a_permutation(sentence, index):
    for name in NAMES:
        order = from_name(name).order(sentence, index=index)
        assert sorted(order) == list(range(len(sentence)))


@pytest.mark.parametrize(
    ("sentence", "inverted"),
    [
        ("The cat sat .", "sat cat The ."),
        ("The cat sat", "sat cat The"),
        ("Who ? Me !", "Me ? Who !"),
        (". . a ?", "a . . ?"),
        # Marks that begin a sentence that none ends stay: "a ." would not invert back.
        (". a", ". a"),
        (". ? a b", ". ? b a"),
        (". a .", "a . ."),
        ("U. S .", "S U. ."),
        ("he said ...", "... said he"),
        ("!", "!"),
        ("", ""),
    ],
)
def test_inversion_reverses_all_but_a_final_mark(sentence, inverted):
    assert from_name("inv").derive(sentence.split()) == inverted.split()


@given(sentence=sentences)
def test_inversion_twice_is_the_identity(sentence):
    language = from_name("inv")
    assert language.derive(language.derive(sentence)) == sentence


def test_permutation_is_a_function_of_seed_and_index_alone():
    language, sentence = from_name("perm", seed=3), [f"w{i}" for i in range(9)]
    orders = [language.order(sentence, index=i) for i in range(200)]
    random.seed(1)
    again = [language.order(["x"] * 9, index=i) for i in reversed(range(200))][::-1]
    assert orders == again
    assert len(set(map(tuple, orders))) > 190
    others = [from_name("perm", seed=4).order(sentence, index=i) for i in range(200)]
    assert sum(a == b for a, b in zip(orders, others, strict=True)) < 5
    # Every word comes to every place about equally often.
    firsts = [from_name("perm").order(sentence, index=i)[0] for i in range(2700)]
    assert all(230 < firsts.count(word) < 370 for word in range(9))


def test_two_permutations_of_a_name_differ():
    once, twice = from_name("perm"), from_name("perm_perm")
    sentence = list("abcdefgh")
    first = once.order(sentence, index=5)
    assert twice.order(sentence, index=5) != [first[i] for i in first]


@given(sentence=sentences, index=indices)
def test_orders_apply_from_left_to_right(sentence, index):
    permuted = from_name("perm").derive(sentence, index=index)
    assert from_name("perm_inv").derive(sentence, index=index) == from_name("inv").derive(permuted)


def test_syntax_is_a_permutation_and_composes_as_by_hand(trees):
    model = WordOrderModel.from_name("fr")
    moved = 0
    for index, (sentence, tree) in enumerate(trees):
        order = model.order(tree, seed=7, index=index)
        assert sorted(order) == list(range(len(sentence)))
        moved += order != sorted(order)
        for name, expected in (
            ("syn-fr", order),
            ("trans_syn-fr", order),
            (
                "syn-fr_inv",
                [order[i] for i in from_name("inv").order([sentence[i] for i in order])],
            ),
        ):
            language = from_name(name, seed=7)
            assert language.order(sentence, tree=tree, index=index) == expected
            derived = language.derive(sentence, tree=tree, index=index)
            assert derived == [language.spell(sentence[i]) for i in expected]
    assert moved > len(trees) / 2


def test_syntax_after_an_inversion_sees_the_inverted_tree(trees):
    model = WordOrderModel.from_name("fr")
    for index, (sentence, tree) in enumerate(trees):
        first = from_name("inv").order(sentence)
        then = model.order(tree.reordered(first), seed=7, index=index)
        expected = [first[i] for i in then]
        assert from_name("inv_syn-fr", seed=7).order(sentence, tree=tree, index=index) == expected


def test_syntax_needs_a_tree():
    with pytest.raises(
        ValueError, match="syn-fr reorders by syntax: it needs each sentence's tree"
    ):
        from_name("trans_syn-fr").order(["a", "b"])


@pytest.fixture
def pairs_swapped():
    """An order as a plug-in registers it, known for one test."""

    @register_order("swap", "each two words exchanged")
    def swap(order, words, tree, seed, index):
        assert (seed, index, tree) == ("7/1", 3, None)
        return [i for start in range(0, len(order), 2) for i in order[start : start + 2][::-1]]

    yield swap
    del ORDERS["swap"]


def test_a_registered_order_is_known_at_once(pairs_swapped):
    language = from_name("trans_inv_swap", seed=7)
    assert language.orders == ("inv", "swap")
    assert language.order(list("abcde"), index=3) == [3, 4, 1, 2, 0]
    assert language.describe().endswith("reversed; each two words exchanged (seed 7).")
    assert pickle.loads(pickle.dumps(language)) == language
    with pytest.raises(ValueError, match=r"known parts, joined by '_', are .*, inv, .*, swap$"):
        from_name("klingon")


@pytest.mark.parametrize("name", ["", "inv", "two_parts", "transpose"])
def test_an_order_needs_a_name_of_its_own(name):
    with pytest.raises(ValueError, match="an order cannot be named"):
        register_order(name, "words as they are")


def test_a_language_says_what_it_is():
    assert from_name("trans50_inv_syn-fr", seed=2).describe() == (
        "`trans50_inv_syn-fr` is English with 50% of words in a script of their own; the words of "
        "a sentence reversed; nouns' and verbs' dependents in the order, drawn for each sentence, "
        "of `fr` (seed 2)."
    )
    assert "the words of a sentence shuffled (seed 0)" in from_name("perm").describe()
    assert "in the most likely order of `hi`" in from_name("syn-hi-best").describe()


# --- spellings ------------------------------------------------------------------------------------


@given(sentence=sentences, index=indices)
def test_deriving_is_undone_by_unspelling_and_the_inverse_order(sentence, index):
    for name in NAMES:
        language = from_name(name)
        order = language.order(sentence, index=index)
        restored = [""] * len(sentence)
        for place, word in zip(order, language.derive(sentence, index=index), strict=True):
            restored[place] = language.unspell(word)
        assert restored == sentence


@given(sentence=sentences, index=indices)
def test_transliteration_commutes_with_every_order(sentence, index):
    trans = from_name("trans")
    for order in ("inv", "perm", "perm_inv"):
        both = from_name(f"trans_{order}").derive(sentence, index=index)
        spelled_last = list(map(trans.spell, from_name(order).derive(sentence, index=index)))
        assert both == spelled_last
        spelled_first = list(map(trans.spell, sentence))
        places = from_name(order).order(sentence, index=index)
        assert both == [spelled_first[i] for i in places]


def test_the_map_of_characters_is_one_to_one_into_scripts_of_its_own():
    map_ = spelling("中あ。")
    assert len(set(map_.table.values())) == len(map_.table)
    assert not {chr(code) for code in map_.table} & set(map_.table.values())
    assert set(map_.table.values()) <= DERIVED_CHARACTERS
    assert all(ord(c) in map_.table for c in "azAZ09.,!?-'\"éßñœЖя€…—“”中あ。")
    assert all(map_.inverse[ord(target)] == chr(code) for code, target in map_.table.items())


def test_derived_characters_are_as_the_tokenizer_needs_them():
    """Letters stay letters, marks marks, and neither normaliser touches them."""
    map_ = spelling()
    for code, target in map_.table.items():
        assert is_punctuation(target) == is_punctuation(chr(code))
    text = "".join(sorted(DERIVED_CHARACTERS))
    for lowercase in (False, True):
        assert BertNormalizer(lowercase=lowercase).normalize_str(text) == text


def test_an_alphabet_in_the_derived_script_or_too_large_is_refused():
    with pytest.raises(ValueError, match=r"already uses the derived script .*U\+1401"):
        spelling("中ᐁ")
    cjk = "".join(map(chr, range(0x4E00, 0x4E00 + len(DERIVED_CHARACTERS))))
    with pytest.raises(ValueError, match="more characters than the derived script: at most"):
        spelling(cjk)


def test_standard_characters_are_spelled_alike_whatever_the_alphabet():
    assert spelling("中あ").table.items() >= spelling().table.items()


def test_text_in_the_derived_script_is_recognised():
    language = from_name("trans")
    assert language.uses_derived_script("one " + language.spell("x"))
    assert language.uses_derived_script(language.spell("!"))
    assert not language.uses_derived_script("Ça va, naïve Ж? — 100 % 中文 😀")
    assert not from_name("inv").uses_derived_script(language.spell("x"))


# --- a share of the word types --------------------------------------------------------------------

TYPES = [f"{a}{b}{c}" for a in "bcdfgh" for b in "aeiouy" for c in range(100)]


@pytest.mark.parametrize("percent", [1, 25, 50, 75, 99])
def test_about_that_share_of_word_types_is_mapped(percent):
    language = from_name(f"trans{percent}_inv")
    share = sum(language.spell(word) != word for word in TYPES) / len(TYPES)
    assert abs(100 * share - percent) < 3
    for word in TYPES[:200]:
        expected = from_name("trans").spell(word) if language.maps(word) else word
        assert language.spell(word) == expected


def test_the_seed_chooses_the_shared_words():
    first, second = from_name("trans50"), from_name("trans50", seed=1)
    agree = sum(first.maps(word) == second.maps(word) for word in TYPES) / len(TYPES)
    assert 0.45 < agree < 0.55


def test_parts_of_a_word_are_types_of_their_own():
    """As the tokenizer parts them, so that a text and its words are mapped alike."""
    language = from_name("trans50")
    for word in ("don't", "well-known", "foo。bar", "$3.50", "a—b", "two words"):
        parts = list(_parts(word))
        assert language.spell(word) == "".join(map(language.spell, parts))
    assert {language.maps(t) for t in ("foo", "bar", "。", "don", "t")} == {True, False}


def _parts(word):
    part = ""
    for character in word:
        if is_punctuation(character) or character == " ":
            yield from (part, character)
            part = ""
        else:
            part += character
    yield part


SCRIPT = """
import sys
from hf_alignmlm.languages.synthetic import SyntheticLanguage
sys.stdout.reconfigure(encoding="utf-8")
for name in sys.argv[1:]:
    language = SyntheticLanguage.from_name(name, seed=5)
    for index in range(20):
        print(*language.derive([f"w{i}" for i in range(20)], index=index))
"""


def test_another_process_derives_the_same():
    names = ["trans50", "perm", "trans25_perm_inv"]
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        check=True,
    ).stdout.decode()
    here = [
        " ".join(from_name(name, seed=5).derive([f"w{i}" for i in range(20)], index=index))
        for name in names
        for index in range(20)
    ]
    assert output.splitlines() == here


# --- names and files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", "klingon", "trans_", "inv_klingon", "trans0", "trans100", "trans050", "Trans", "syn-xx"],
)
def test_an_unknown_name_lists_the_known_parts(name):
    with pytest.raises(ValueError, match="unknown language") as caught:
        from_name(name)
    message = str(caught.value)
    assert repr(name) in message
    assert all(part in message for part in ("trans,", "transNN", "inv", "perm", "syn-fr"))
    assert "\n" not in message


def test_two_transliterations_in_a_name_are_refused():
    with pytest.raises(ValueError, match="more than one transliteration"):
        from_name("trans_inv_trans50")


def test_a_name_is_canonical():
    assert from_name("inv_trans").name == "trans_inv"
    assert from_name("inv_trans") == from_name("trans_inv")
    assert hash(from_name("inv_trans50_perm")) == hash(from_name("trans50_inv_perm"))
    assert from_name("inv_perm") != from_name("perm_inv")
    assert from_name("syn-fr_trans_inv").orders == ("syn-fr", "inv")


@pytest.mark.parametrize("name", [*NAMES, "trans_syn-fr_inv"])
def test_a_language_comes_back_from_its_file(tmp_path, name):
    language = from_name(name, seed=9, alphabet="中あ")
    language.spell("used before")
    language.save_pretrained(tmp_path)
    loaded = SyntheticLanguage.from_pretrained(tmp_path)
    assert loaded == language
    assert loaded.spell("中a") == language.spell("中a")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "inv", "more": 1}', '{"name": "x"}'])
def test_a_file_of_no_language_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / "language.json").write_text(text)
    with pytest.raises(ValueError, match=r"language\.json does not describe a language"):
        SyntheticLanguage.from_pretrained(tmp_path)


def test_a_used_language_is_pickled_and_cached_as_a_fresh_one():
    """Or each process, and each resumed run, would tokenize its corpus again."""
    used = from_name("trans50_inv", seed=2)
    used.derive(["a", "b"])
    fresh = SyntheticLanguage(**json.loads(json.dumps({"name": "trans50_inv", "seed": 2})))
    assert Hasher.hash(used) == Hasher.hash(fresh) != Hasher.hash(from_name("trans50_inv"))
    assert pickle.loads(pickle.dumps(used)) == used

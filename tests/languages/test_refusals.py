"""What is no language, no tree and no order of words is refused, in one line that says where."""

import json
import math
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_alignmlm.data.encoding import tokenize_corpus
from hf_alignmlm.languages.orders import ORDERS
from hf_alignmlm.languages.orders import order as register_order
from hf_alignmlm.languages.spelling import PRE_TOKENIZER, spelling
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.languages.word_order import Sentence, WordOrderModel, plan_tree
from hf_alignmlm.tasks.base import Row, Task
from study.word_order import learn

from_name = SyntheticLanguage.from_name

# "the cat": a determiner and its noun, the root.
TWO = {"heads": (2, 0), "deprels": ("det", "root"), "upos": ("DET", "NOUN")}
TOY = [
    Sentence(("the", "cat", "sat"), ("DET", "NOUN", "VERB"), (2, 3, 0), ("det", "nsubj", "root"))
]
STANDARD = "".join(map(chr, spelling().table))


# --- trees ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ((2, 1), "word 1 is in a cycle"),
        ((0, 2), "word 2 is in a cycle"),
        ((0, 3, 2, 2), "word 2 is in a cycle, or below one"),
        ((2, 0, 9), "word 3 has head 9, not one of 0 to 3"),
        ((0, -2), "head -2"),
        ((0, None), "head None"),
        ((0, "1"), "head '1'"),
        ((0, 1.0), "head 1.0"),
        ((0, math.nan), "head nan"),
        ((0, True), "head True"),
        ((0, [1]), r"head \[1\]"),
        ((0, 10**30), "head 10{30}, not one of 0 to 2"),
        ((), "no words"),
    ],
)
@pytest.mark.parametrize("name", ["syn-fr", "inv_syn-hi-best"])
def test_heads_that_are_no_tree_are_refused(name, heads, said):
    columns = ("a",) * len(heads)
    tree = Sentence(columns, columns, heads, columns)
    with pytest.raises(ValueError, match=f"^a.conllu, row 3: the tree: .*{said}") as caught:
        from_name(name).order(columns, tree=tree, index=2 * 4096, where="a.conllu, row 3")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=f"^sentence 7: .*{said}"):
        WordOrderModel.from_name("fr").order(tree, index=7)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("heads", (0,), "words, heads, deprels and upos differ in length"),
        ("heads", (2, 0, 2), "differ in length"),
        ("deprels", ("det",), "differ in length"),
        ("upos", ("DET", "NOUN", "NOUN"), "differ in length"),
        ("heads", 5, "5 stands where a list belongs"),
        ("heads", {"0": 2}, "stands where a list belongs"),
        ("deprels", "ab", "'ab' stands where a list belongs"),
        ("upos", None, "None stands where a list belongs"),
        ("deprels", (None, "root"), "None stands where a text belongs"),
        ("upos", ("DET", ["NOUN"]), "stands where a text belongs"),
        ("upos", ("DET", 7), "7 stands where a text belongs"),
    ],
)
@pytest.mark.parametrize("name", ["syn-fr", "perm_syn-hi-best"])
def test_a_column_that_does_not_fit_is_refused(name, column, values, said):
    tree = SimpleNamespace(**TWO | {column: values})
    with pytest.raises(ValueError, match=f"^row 6: the tree: .*{said}"):
        from_name(name).order(["the", "cat"], tree=tree, where="row 6")


def reaches_the_root(heads, node):
    """Whether the heads lead from a word to the root, walked step by step."""
    for _ in heads:
        node = heads[node] - 1
        if node < 0:
            return True
    return False


@settings(max_examples=300)
@given(st.lists(st.integers(-1, 5) | st.sampled_from([None, 1.0, "1", True]), max_size=5))
def test_heads_are_a_tree_or_are_refused(heads):
    n = len(heads)
    fits = all(type(head) is int and 0 <= head <= n for head in heads)
    if heads and fits and all(reaches_the_root(heads, node) for node in range(n)):
        tree = SimpleNamespace(heads=heads, deprels=["obj"] * n, upos=["VERB"] * n)
        order = from_name("perm_syn-fr").order(["w"] * n, tree=tree)
        assert sorted(order) == list(range(n))
    else:
        with pytest.raises(ValueError, match=r"^row 1: "):
            plan_tree(heads, "row 1")


def test_heads_may_be_an_array():
    tree = SimpleNamespace(**TWO | {"heads": np.array(TWO["heads"])})
    order = from_name("syn-ar").order(["the", "cat"], tree=tree)
    assert order == from_name("syn-ar").order(["the", "cat"], tree=SimpleNamespace(**TWO))


@pytest.mark.parametrize("heads", [[2, 1], None])
def test_the_row_whose_tree_is_wrong_is_named(doubled, heads):
    said = "row 6: the tree: word 1 is in a cycle" if heads else "row 6: syn-fr reorders by syntax"
    good = {"words": ["the", "cat"]} | {name: list(values) for name, values in TWO.items()}
    rows = [*[good] * 5, good | {"heads": heads}]
    with pytest.raises(ValueError, match=f"my text, {said}"):
        tokenize_corpus(Dataset.from_list(rows), doubled[0], from_name("syn-fr"), name="my text")
    tree = SimpleNamespace(**TWO | {"heads": heads}) if heads else None
    with pytest.raises(ValueError, match=f"a.jsonl, {said}"):
        Task().derive(Row([["the", "cat"]], [], [tree], "a.jsonl, row 6"), from_name("syn-fr"), 5)


# --- orders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [[], [0], [0, 0, 1], [0, 1, 2, 0]])
def test_an_order_that_loses_or_repeats_words_is_refused(wrong):
    register_order("toy", "words lost")(lambda order, words, tree, seed, index: wrong)
    try:
        with pytest.raises(ValueError, match="row 2: inv_toy gives no order of 3 words"):
            from_name("inv_toy").order(list("abc"), where="row 2")
    finally:
        del ORDERS["toy"]


@pytest.mark.parametrize("name", ["trans", "transfer", "a b", "../x", "-", "x\n", "a,b"])
def test_a_name_that_is_not_fit_for_a_file_is_refused_for_an_order(name):
    with pytest.raises(ValueError, match="an order cannot be named"):
        register_order(name, "words as they are")


def test_a_text_is_no_list_of_words():
    with pytest.raises(ValueError, match="a list of words is wanted, not a text: 'The cat sat"):
        from_name("trans_inv").derive("The cat sat .")


@pytest.mark.parametrize(
    "damage",
    [
        {"weights": []},
        {"weights": {"verb": {}, "noun": {"amod<head": "much"}}},
        {"weights": {"verb": {}, "noun": {"amod<head": math.nan}}},
        {"weights": {"noun": {}, "verb": ["amod<head"]}},
        {"sides": {"noun": {}, "verb": {"obj": 3}}},
        {"sides": {"noun": {}, "verb": {"obj": [None, 3]}}},
        {"sides": "noun verb"},
        {"version": "1"},
    ],
)
def test_a_damaged_model_of_word_order_is_refused(tmp_path, damage):
    path = tmp_path / "toy.json"
    learn(TOY, name="toy").save(path)
    WordOrderModel.from_file(path).order(TOY[0])
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(ValueError, match=r"toy\.json: not a word-order model"):
        WordOrderModel.from_file(path)


@pytest.mark.parametrize("l2", [0, -1.0, math.nan, math.inf])
def test_a_prior_that_is_no_number_above_0_is_refused(l2):
    with pytest.raises(ValueError, match="l2 is"):
        learn(TOY, l2=l2)


# --- names and seeds ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *(
            "TRANS",
            "trans__inv",
            "_inv",
            "natural",
            "natural_inv",
            "inv_natural",
            "trans-5",
            "inv ",
            "trans00",
        ),
        *("trans5.5", "trans\u0665", "trans1\u0665", "trans50\n", "in\u200bv"),
    ],
)
def test_a_name_that_is_nearly_right_is_refused(name):
    with pytest.raises(ValueError, match="unknown language") as caught:
        from_name(name)
    assert "\n" not in str(caught.value)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["trans", "trans7", "inv", "perm", "syn-fr", "natural", "", "İ"])))
def test_a_name_is_refused_or_names_one_language(parts):
    spellings = [part for part in parts if part.startswith("trans")]
    right = not {"natural", "", "İ"} & {*parts}
    if parts and right and len(spellings) < 2:
        language = from_name("_".join(parts))
        assert from_name(language.name) == language
        assert sorted(language.name.split("_")) == sorted(parts)
    else:
        with pytest.raises(ValueError, match="language"):
            from_name("_".join(parts))


@pytest.mark.parametrize("name", [None, 5, True, b"inv", ["inv"], {"name": "inv"}])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(ValueError, match="name and alphabet must be texts"):
        from_name(name)


@pytest.mark.parametrize("seed", [None, "7", 1.0, math.nan, True, [1], 2**63, -(2**63)])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be a whole number of at most 64 bits"):
        from_name("perm", seed=seed)


def test_a_seed_too_long_to_print_is_refused():
    with pytest.raises(ValueError, match="whole number of at most 64 bits"):
        from_name("perm", seed=10**5000)


def test_seeds_may_be_negative_and_large():
    languages = [from_name("perm", seed=s) for s in (-1, 0, 1, 2**63 - 1, 1 - 2**63)]
    assert len({tuple(language.order(["w"] * 20)) for language in languages}) == 5


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *(b"5", b"null", b'"inv"', b'{"name": "inv"', b'{"name": "inv"}}', b"[" * 100_000),
        *(b'{"name": null}', b'{"name": ["inv"]}', b'{"name": ""}', b'{"name": "trans__inv"}'),
        *(b'{"name": "inv", "seed": "x"}', b'{"name": "inv", "seed": null}'),
        *(b'{"name": "inv", "seed": 1.5}', b'{"name": "inv", "seed": NaN}'),
        *(b'{"name": "inv", "seed": true}', b'{"name": "inv", "seed": 1e400}'),
        *(b'{"name": "inv", "alphabet": 5}', b'{"name": "inv", "alphabet": ["a"]}'),
        *(rb'{"name": "trans", "alphabet": "\u1401"}', rb'{"name": "trans", "alphabet": "\ud800"}'),
        *(b'{"name": "tr\xe9ns"}', b"\x00\x01", '{"name": "inv"}'.encode("utf-16")),
    ],
    ids=lambda text: repr(text[:40]),
)
def test_a_damaged_file_of_a_language_is_refused(tmp_path, text):
    (tmp_path / "language.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"language\.json does not describe a language") as caught:
        SyntheticLanguage.from_pretrained(tmp_path)
    assert len(str(caught.value)) < 1000


def test_a_missing_file_of_a_language_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"language\.json"):
        SyntheticLanguage.from_pretrained(tmp_path)


@settings(max_examples=30)
@given(st.integers(1 - 2**63, 2**63 - 1), st.text(STANDARD + "中あ。\n"))
def test_any_seed_and_alphabet_come_back_from_their_file(seed, alphabet):
    language = from_name("trans50_perm", seed=seed, alphabet=alphabet)
    with tempfile.TemporaryDirectory() as folder:
        language.save_pretrained(folder)
        assert SyntheticLanguage.from_pretrained(folder) == language


@given(st.lists(st.text(STANDARD, min_size=1, max_size=8), max_size=6))
def test_a_spelled_text_falls_into_words_where_the_original_does(words):
    language, split = from_name("trans"), PRE_TOKENIZER.pre_tokenize_str
    original, spelled = split(" ".join(words)), split(language.spell(" ".join(words)))
    assert spelled == [(language.spell(word), span) for word, span in original]

"""The laws of the embedded corpus: sound analyses, the same everywhere, and enough to learn."""

import hashlib
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import BertPreTokenizer

from hf_alignmlm.minienglish.grammar import Pair, Sentence, pair, pairs, sentence, sentences

DIGEST = "c2caa6c39c95cfb1cf132739e0b64260a972d99185efd988f3e0d9ebd1d3190b"
UPOS = {
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN"),
    *("NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "VERB"),
}
MARKS = {".", "!", "?"}

items = {
    "index": st.integers(0, 10**9),
    "split": st.sampled_from(["train", "validation", "test"]),
    "seed": st.integers(0, 10**6),
}
laws = settings(max_examples=150, deadline=None)


@pytest.fixture(scope="module")
def corpus() -> list[Sentence]:
    return list(sentences(4000))


@pytest.fixture(scope="module")
def inferences() -> list[Pair]:
    return list(pairs(3000))


def yields(heads: tuple[int, ...]) -> dict[int, set[int]]:
    """All that each node dominates, itself included; a cycle raises."""
    below: dict[int, set[int]] = {node: {node} for node in range(len(heads) + 1)}
    for node in range(1, len(heads) + 1):
        above, steps = heads[node - 1], 0
        while True:
            below[above].add(node)
            if above == 0:
                break
            above, steps = heads[above - 1], steps + 1
            assert steps <= len(heads), "cycle"
    return below


def entropy(values: Iterable[str]) -> float:
    counts = Counter(values)
    total = counts.total()
    return -sum(n / total * math.log2(n / total) for n in counts.values())


@laws
@given(**items)
def test_a_sentence_is_well_formed(index: int, split: str, seed: int) -> None:
    item = sentence(index, split=split, seed=seed)
    columns = (item.words, item.upos, item.ner_tags, item.heads, item.deprels)
    assert {len(column) for column in columns} == {len(item.words)}
    assert 2 <= len(item.words) <= 70
    assert set(item.upos) <= UPOS
    assert item.words[-1] in MARKS
    assert not MARKS & set(item.words[:-1])
    assert re.match("[A-Z0-9]", item.words[0])
    for word, tag in zip(item.words, item.upos, strict=True):
        assert (tag == "PUNCT") == (word in MARKS | {","})


@laws
@given(**items)
def test_the_tree_has_one_root_reaches_all_and_is_projective(
    index: int, split: str, seed: int
) -> None:
    item = sentence(index, split=split, seed=seed)
    assert item.heads.count(0) == 1
    assert item.deprels[item.heads.index(0)] == "root"
    assert item.deprels.count("root") == 1
    below = yields(item.heads)
    assert len(below[0]) == len(item.words) + 1
    for nodes in below.values():
        assert len(nodes) == max(nodes) - min(nodes) + 1
    for head, relation in zip(item.heads, item.deprels, strict=True):
        if relation in ("case", "det", "amod", "nummod"):
            assert item.upos[head - 1] in ("NOUN", "PROPN", "NUM", "PRON")
        if relation in ("aux", "aux:pass", "obj", "iobj"):
            assert item.upos[head - 1] in ("VERB", "ADJ", "NOUN", "PROPN")


@laws
@given(**items)
def test_entities_are_strict_iob2_and_subtrees(index: int, split: str, seed: int) -> None:
    item = sentence(index, split=split, seed=seed)
    before = "O"
    for word, tag in zip(item.words, item.ner_tags, strict=True):
        assert tag in {"O", *(f"{p}-{kind}" for p in "BI" for kind in ("PER", "LOC", "ORG"))}
        if tag.startswith("I-"):
            assert before[2:] == tag[2:]
        if tag.startswith("B-"):
            assert word[0].isupper()
        before = tag
    for node, tag in enumerate(item.ner_tags, 1):
        # One word of each entity has its head outside; the others hang on it.
        if tag.startswith("B-"):
            end = node
            while end < len(item.words) and item.ner_tags[end].startswith("I-"):
                end += 1
            span = range(node, end + 1)
            assert sum(item.heads[i - 1] not in span for i in span) == 1


@settings(max_examples=60, deadline=None)
@given(**items)
def test_a_pair_is_well_formed(index: int, split: str, seed: int) -> None:
    item = pair(index, split=split, seed=seed)
    assert item.label in ("entailment", "neutral", "contradiction")
    assert item.premise.words != item.hypothesis.words
    for words in (item.premise.words, item.hypothesis.words):
        assert words[-1] == "."
        assert words[0][0].isupper()
        assert all(re.fullmatch(r"[A-Za-z0-9]+|[,.]", word) for word in words)


@settings(max_examples=15, deadline=None)
@given(split=items["split"], seed=items["seed"], count=st.integers(0, 12))
def test_random_access_is_the_stream(split: str, seed: int, count: int) -> None:
    state = random.getstate()
    endless = sentences(split=split, seed=seed)
    singles = [sentence(i, split=split, seed=seed) for i in range(count)]
    assert singles == list(sentences(count, split=split, seed=seed))
    assert singles == [next(endless) for _ in range(count)]
    assert [pair(i, split=split, seed=seed) for i in range(count)] == list(
        pairs(count, split=split, seed=seed)
    )
    assert random.getstate() == state


def test_items_are_the_same_on_every_machine() -> None:
    text = repr([list(sentences(200)), list(pairs(200))])
    assert hashlib.sha256(text.encode()).hexdigest() == DIGEST


@pytest.mark.parametrize("make", [sentences, pairs])
def test_splits_and_seeds_differ(make) -> None:
    streams = [make(300), make(300, split="validation"), make(300, seed=1)]
    texts = [list(map(repr, stream)) for stream in streams]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert sum(a == b for a, b in zip(texts[i], texts[j], strict=True)) < 10
        assert len(set(texts[i]) & set(texts[j])) < 60


def test_the_vocabulary_is_small_and_zipfian(corpus: list[Sentence]) -> None:
    counts = Counter(word for item in corpus for word in item.words)
    assert 400 <= len(counts) <= 1000
    assert 0.25 <= sum(n for _, n in counts.most_common(10)) / counts.total() <= 0.6
    ranked = [n for _, n in counts.most_common()]
    assert ranked[0] > 10 * ranked[50] > 20 * ranked[400]
    cities = Counter(
        word
        for item in corpus
        for word, tag in zip(item.words, item.ner_tags, strict=True)
        if tag == "B-LOC"
    )
    frequent = [n for _, n in cities.most_common(12)]
    assert frequent[0] > 1.5 * frequent[1]
    assert frequent[0] > 5 * frequent[-1]
    assert len({word for item in sentences(20_000, seed=3) for word in item.words}) <= 1000


def test_commas_part_words(corpus: list[Sentence]) -> None:
    for item in corpus:
        assert item.words[0] != ","
        assert not any(a == "," and b in MARKS | {","} for a, b in pairwise(item.words))


def test_lengths_spread(corpus: list[Sentence]) -> None:
    lengths = sorted(len(item.words) for item in corpus)
    assert 11 <= sum(lengths) / len(lengths) <= 13
    assert lengths[len(lengths) // 20] <= 6
    assert 20 <= lengths[-len(lengths) // 20] <= 30


def test_tags_need_context(corpus: list[Sentence]) -> None:
    tags, kinds = defaultdict(Counter), defaultdict(Counter)
    for item in corpus:
        for word, upos, ner in zip(item.words, item.upos, item.ner_tags, strict=True):
            tags[word][upos] += 1
            kinds[word][ner[2:]] += 1
    assert len({tag for counter in tags.values() for tag in counter}) >= 14
    assert sum(len(counter) > 1 for counter in tags.values()) >= 20
    several = {
        "plan": {"NOUN", "VERB"},
        "had": {"AUX", "VERB"},
        "that": {"DET", "PRON", "SCONJ"},
        "to": {"ADP", "PART"},
        "before": {"ADP", "SCONJ"},
        "novel": {"ADJ", "NOUN"},
    }
    for word, expected in several.items():
        assert set(tags[word]) == expected
    assert sum(len(counter.keys() - {""}) > 1 for counter in kinds.values()) >= 10
    assert {"PER", "LOC", "ORG"} <= set(kinds["Jordan"])
    assert kinds["Monday"].keys() == {""}


def test_words_keep_company(corpus: list[Sentence]) -> None:
    objects = defaultdict(list)
    for item in corpus:
        for word, head, relation in zip(item.words, item.heads, item.deprels, strict=True):
            if relation == "obj" and item.upos[head - 1] == "VERB":
                objects[item.words[head - 1]].append(word)
    # Against the same objects dealt out at random, since few samples have little entropy anyway.
    deck = [word for words in objects.values() for word in words]
    random.Random(0).shuffle(deck)
    dealt = iter(deck)
    chance = sum(len(words) * entropy(islice(dealt, len(words))) for words in objects.values())
    assert sum(len(words) * entropy(words) for words in objects.values()) < 0.75 * chance


SINGULAR = {"a", "an", "this", "every", "another", "he", "she", "it", "everyone", "someone"}
PLURAL = {"these", "those", "two", "three", "many", "all", "40", "they", "we"}


def number(item: Sentence, node: int) -> str:
    """Tell a subject's number by its determiner or its class, never by its ending; "" if unsure."""
    children = [i for i, head in enumerate(item.heads) if head == node + 1]
    if any(item.deprels[i] == "conj" and item.ner_tags[i][:1] != "I" for i in children):
        return "plural"
    if item.words[node] in ("who", "that") and item.deprels[item.heads[node] - 1] == "acl:relcl":
        return number(item, item.heads[item.heads[node] - 1] - 1)
    signs = {item.words[i].lower() for i in [node, *children] if i <= node}
    if signs & SINGULAR or item.upos[node] == "PROPN":
        return "singular"
    return "plural" if signs & PLURAL else ""


def test_verbs_agree_with_their_subjects(corpus: list[Sentence]) -> None:
    bases = {
        item.words[i]
        for item in corpus
        for i, tag in enumerate(item.upos)
        if tag == "VERB" and any(item.words[j] == "to" for j in range(max(0, i - 1), i))
    } - {"read", "beat"}  # also the past
    checked = Counter()
    for item in corpus:
        for node, relation in enumerate(item.deprels):
            if relation not in ("nsubj", "nsubj:pass") or not (count := number(item, node)):
                continue
            head = item.heads[node] - 1
            chain = [i for i, h in enumerate(item.heads) if h == head + 1 and item.upos[i] == "AUX"]
            finite = item.words[min(chain, default=head)].lower()
            checked[count] += 1
            if count == "singular":
                assert finite not in {"are", "were", "have", "do", "am"} | bases, item.words
            else:
                assert finite not in {"is", "was", "has", "does", "am"}, item.words
                assert finite not in {base + "s" for base in bases}, item.words
    assert min(checked.values()) > 200


def test_labels_are_balanced_and_unpredictable(inferences: list[Pair]) -> None:
    counts = Counter(item.label for item in inferences)
    assert all(abs(n / len(inferences) - 1 / 3) < 0.03 for n in counts.values())
    for rest in range(3):
        third = Counter(item.label for item in inferences[rest::3])
        assert all(abs(n / third.total() - 1 / 3) < 0.06 for n in third.values())


@pytest.mark.parametrize("side", ["premise", "hypothesis"])
def test_one_word_of_one_side_tells_little(inferences: list[Pair], side: str) -> None:
    told = [({*getattr(item, side).words}, item.label) for item in inferences]
    for clue in {word for words, _ in told for word in words}:
        cases = Counter((clue in words, label) for words, label in told)
        right = sum(
            max((n for (has, _), n in cases.items() if has is found), default=0)
            for found in (True, False)
        )
        assert right / len(told) < 0.45, clue


def test_polarity_alone_does_not_tell(inferences: list[Pair]) -> None:
    for label in ("entailment", "neutral", "contradiction"):
        told = {
            ("not" in item.premise.words, "not" in item.hypothesis.words)
            for item in inferences
            if item.label == label
        }
        assert len(told) == 4


def within(short: tuple[str, ...], long: tuple[str, ...]) -> bool:
    rest = iter(long)
    return len(short) < len(long) and all(word in rest for word in short)


def test_modifiers_are_labelled_as_logic_has_it(inferences: list[Pair]) -> None:
    seen = Counter()
    for item in inferences:
        longer, shorter = sorted([item.premise.words, item.hypothesis.words], key=len, reverse=True)
        denied = [words.count("not") for words in (item.premise.words, item.hypothesis.words)]
        if {"that", "to", "by"} & set(longer) or denied[0] != denied[1]:
            continue
        if within(shorter, longer):
            # A denial reaches what modifies the verb, but not what modifies its subject.
            reached = denied[0] == 1 and "who" not in longer
            expected = ("neutral", "entailment")[(longer is item.premise.words) != reached]
            assert item.label == expected, item
            seen[expected, sum(denied) > 0] += 1
    assert len(seen) == 4
    assert min(seen.values()) > 20


def test_no_pair_has_two_labels(inferences: list[Pair]) -> None:
    labels = defaultdict(set)
    for item in inferences:
        labels[item.premise.words, item.hypothesis.words].add(item.label)
    assert all(len(found) == 1 for found in labels.values())
    assert len(labels) > 0.9 * len(inferences)


def test_each_word_is_one_word_to_bert(corpus: list[Sentence], inferences: list[Pair]) -> None:
    splitter = BertPreTokenizer()
    words = {word for item in corpus for word in item.words}
    words |= {word for item in inferences for word in item.premise.words + item.hypothesis.words}
    for word in words:
        assert re.fullmatch(r"[A-Za-z0-9]+|[,.!?]", word)
        assert [piece for piece, _ in splitter.pre_tokenize_str(word)] == [word]

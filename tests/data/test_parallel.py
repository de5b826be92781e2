"""Parallel text: forms are read alike, what is no pair is named, packing keeps pairs whole."""

import json
import logging
import os
import re
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hub_server import HubServer, in_process
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_alignmlm.data.packing import EpochDataset, pack, packing_report
from hf_alignmlm.data.parallel import PAIRS, load_parallel, read_parallel, tokenize_pairs
from hf_alignmlm.data.sources import join

TEXTS = [("The cat sat.", "Le chat dort."), ("Who?", "Qui ?"), ('A "dog', "Un « chien")]
CLS, SEP, PAD = 2, 3, 0


def put(path, lines, ending="\n"):
    path.write_text("".join(line + ending for line in lines), encoding="utf-8")
    return str(path)


def pairs_of(rows, names=("en", "fr")):
    return [tuple(row[name] for name in names) for row in rows]


def forms(folder):
    """The same text in each form that is read: a name, and the files of the pair en-fr."""
    rows = [dict(zip(("en", "fr"), pair, strict=True)) for pair in TEXTS]
    yield "tab-separated", [put(folder / "a.tsv", map("\t".join, TEXTS))]
    yield "tab-separated text", [put(folder / "a.txt", map("\t".join, TEXTS))]
    yield "with CRLF", [put(folder / "b.tsv", map("\t".join, TEXTS), "\r\n")]
    lines = (f"{n}\t{a}\t{9 * n}\t{b}" for n, (a, b) in enumerate(TEXTS))
    yield "Tatoeba's", [put(folder / "tatoeba.tsv", lines)]
    header = ["fr\ttopic\ten", *(f"{b}\tx\t{a}" for a, b in TEXTS)]
    yield "with names", [put(folder / "names.tsv", header)]
    sides = zip(*TEXTS, strict=True)
    yield (
        "aligned",
        [put(folder / f"c.{n}", side) for n, side in zip(("en", "fr"), sides, strict=True)],
    )
    yield "JSON lines", [put(folder / "d.jsonl", map(json.dumps, rows))]
    nested = (json.dumps({"id": "7", "translation": row}) for row in rows)
    yield "translation", [put(folder / "e.jsonl", nested)]
    pq.write_table(
        pa.Table.from_pylist([{"translation": row} for row in rows]), folder / "f.parquet"
    )
    yield "parquet", [str(folder / "f.parquet")]
    first, rest = (
        put(folder / "g.tsv", map("\t".join, TEXTS[:1])),
        put(folder / "h.jsonl", map(json.dumps, rows[1:])),
    )
    yield "two files", [first, rest]


def test_every_form_gives_the_same_pairs_in_the_order_of_their_names(tmp_path):
    for name, files in forms(tmp_path):
        assert pairs_of(read_parallel("en-fr", files)) == TEXTS, name
        if name not in (
            "tab-separated",
            "tab-separated text",
            "with CRLF",
            "Tatoeba's",
            "aligned",
            "two files",
        ):
            # Called by their names, texts are found under any name of the pair.
            assert pairs_of(read_parallel("fr-en", files)) == TEXTS, name
    files = [str(tmp_path / "a.tsv")]
    assert pairs_of(read_parallel("fr-en", files), ("fr", "en")) == TEXTS


def test_empty_sides_are_skipped_and_counted(tmp_path, caplog):
    rows = [*({"en": a, "fr": b} for a, b in TEXTS), {"en": " ", "fr": "x"}, {"en": "x"}]
    path = put(tmp_path / "a.jsonl", map(json.dumps, [*rows, {"en": "x", "fr": None}]))
    assert pairs_of(read_parallel("en-fr", [path])) == TEXTS
    lines = ["\t".join(pair) for pair in TEXTS]
    table = put(tmp_path / "a.tsv", [*lines, "", "x\t", "\ty"])
    assert pairs_of(read_parallel("en-fr", [table])) == TEXTS
    # Again, from the cache.
    assert pairs_of(read_parallel("en-fr", [table])) == TEXTS
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"{name}: skipped 3 pair(s) with an empty side" for name in (path, table, table)
    ]


def wrong(folder):
    yield "three columns", ["a\tb", "c\td\tCC-BY"], ".tsv", "a.tsv, line 2: 3 column(s)"
    yield "one column", ["a", "b"], ".txt", "a.txt, line 1: 1 column(s)"
    yield "nothing but one side", ["a\t", "b\t"], ".tsv", "no row has a text on both sides of en-fr"
    yield (
        "other names",
        ['{"en": "a", "de": "b"}'],
        ".jsonl",
        "row 1: a text of en and fr is wanted, it has en, de",
    )
    yield (
        "a number",
        ['{"en": "a", "fr": "b"}', '{"en": "a", "fr": 3}'],
        ".jsonl",
        "row 2: 3 stands where a text",
    )
    nested = [
        '{"translation": {"en": "a", "fr": "b"}}',
        '{"translation": {"en": "a", "fr": ["b"]}}',
    ]
    yield "a list", nested, ".jsonl", "row 2: ['b'] stands where a text"
    yield (
        "one language",
        ['{"translation": {"en": "a"}}'],
        ".jsonl",
        "row 1: a text of en and fr is wanted, it has en",
    )
    yield "no object", ['{"translation": "a"}'], ".jsonl", "row 1: a text of en and fr is wanted"
    yield (
        "sentences with tags",
        ["a\tB", ""],
        ".conll",
        "row 1: a text of en and fr is wanted, it has tokens, tags",
    )


def test_what_is_no_pair_is_an_error_that_names_file_and_row(tmp_path):
    for name, lines, ending, message in wrong(tmp_path):
        path = put(tmp_path / f"a{ending}", lines)
        with pytest.raises(ValueError, match=re.escape(message)) as refused:
            read_parallel("en-fr", [path])
        assert path in str(refused.value), name
        assert "\n" not in str(refused.value), name
    one, two = put(tmp_path / "x.en", ["a", "b", "c"]), put(tmp_path / "x.fr", ["a", "b"])
    with pytest.raises(ValueError, match=r"x\.en has 3 lines and .*x\.fr 2: a line of the one"):
        read_parallel("en-fr", [one, two])
    columns = [put(tmp_path / f"{n}.txt", ["a\tb"]) for n in "pq"]
    with pytest.raises(ValueError, match=r"have tabs: call files of two columns \.tsv"):
        read_parallel("en-fr", columns)
    for pair in ("en", "", "en-en", "en-fr-hi"):
        with pytest.raises(ValueError, match="is no pair of languages: call it as en-fr"):
            read_parallel(pair, [one])
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_parallel("en-fr", [str(tmp_path / "none.tsv")])


def test_a_changed_file_gives_changed_pairs(tmp_path):
    for text, time in (("a\tb", 10**9), ("a\tc", 10**9 + 1)):
        path = put(tmp_path / "a.tsv", [text])
        os.utime(path, (time, time))
        assert pairs_of(read_parallel("en-fr", [path])) == [tuple(text.split("\t"))]


def test_the_last_part_validates(tmp_path):
    path = put(tmp_path / "a.tsv", (f"{n}\t{n}" for n in range(40)))
    train, validation = load_parallel("en-fr", [path], validation_split_percentage=10)
    assert (train["en"][:], validation["en"][:]) == (
        [*map(str, range(36))],
        [*map(str, range(36, 40))],
    )
    options = {"max_train_samples": 3, "max_eval_samples": 1}
    train, validation = load_parallel("en-fr", [path], **options)
    assert (train["en"][:], validation["en"][:]) == (["0", "1", "2"], ["38"])
    with pytest.raises(ValueError, match="of which none is left to train on"):
        load_parallel("en-fr", [put(tmp_path / "b.tsv", ["1\t2"])])


HUB = """
import datasets
from hf_alignmlm.data.parallel import read_parallel

rows = [{"en": "The cat", "fr": "Le chat"}, {"en": "Who", "fr": "Qui"}]
languages = datasets.Features({"translation": datasets.Translation(languages=["en", "fr"])})
made = datasets.Dataset.from_list([{"translation": row} for row in rows], features=languages)
made.push_to_hub("me/opus", "en-fr", split="train")
datasets.Dataset.from_list(rows[1:]).push_to_hub("me/opus", "plain", split="test")
read = read_parallel("fr-en", dataset_name="me/opus", dataset_config_name="en-fr")
assert read.column_names == ["fr", "en"] and list(read) == rows, list(read)
where = {"dataset_name": "me/opus", "dataset_config_name": "plain", "split": "test"}
assert list(read_parallel("en-fr", **where)) == rows[1:]
try:
    read_parallel("en-de", dataset_name="me/opus", dataset_config_name="en-fr")
except ValueError as error:
    print(error)
"""


def test_a_translation_data_set_of_the_hub_is_read_by_name():
    with HubServer() as server:
        done = in_process(HUB, server.env())
    assert done.returncode == 0, done.stderr
    assert done.stdout == "me/opus, row 1: a text of en and de is wanted, it has en, fr\n"


# --- token ids ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unigram():
    """A tokenizer of letters as SentencePiece has them, which is set to cut and to pad."""
    pieces = [("<pad>", 0.0), ("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("<mask>", 0.0)]
    made = Tokenizer(models.Unigram([*pieces, *((c, -1.0) for c in "▁abcdef<>/s")], unk_id=1))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, mask_token="<mask>", **special)
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=4)
    return tokenizer


def test_both_sides_are_encoded_whole_and_as_text_alone(unigram, caplog):
    rows = [("Ab", "def"), ("a </s> a", "abcdefabcdef"), ("a", " "), ("b", "c")]
    pairs = Dataset.from_list([{"fr": b, "en": a} for a, b in rows])
    found = tokenize_pairs(pairs, unigram, ("en", "fr"), name="verses")
    assert found.features == PAIRS
    assert found["index"][:] == [0, 1, 3]
    text = ["".join(unigram.convert_ids_to_tokens(row["source"])) for row in found]
    assert text == ["▁ab", "▁a▁</s>▁a", "▁b"]
    assert 3 not in found[1]["source"]  # the end of a sequence would be read in the text
    assert len(found[1]["target"]) == 13
    assert "verses: skipped 1 pair(s) of which a side has no token" in caplog.text
    other = tokenize_pairs(pairs, unigram, ("fr", "en"))
    assert other["source"][:] == found["target"][:]
    with pytest.raises(ValueError, match="the parallel text has no pair of which both sides"):
        tokenize_pairs(pairs.select([2]), unigram, ("en", "fr"))


# --- packing --------------------------------------------------------------------------------------


class Special:
    cls_token_id, sep_token_id, pad_token_id = CLS, SEP, PAD


@st.composite
def batches(draw):
    """Pairs of sentences whose tokens are all different, so that each can be followed."""
    fresh = iter(range(10, 100_000))
    sizes = draw(
        st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=14)
    )
    rows = [[[next(fresh) for _ in range(n)] for n in pair] for pair in sizes]
    return [{"source": a, "target": b, "index": i} for i, (a, b) in enumerate(rows)]


def sentences_of(half, isolated):
    end = half.index(PAD) if PAD in half else len(half)
    assert set(half[end:]) <= {PAD}
    assert (half[0], half[end - 1]) == (CLS, SEP)
    text = [i for i in half[:end] if i != CLS]
    assert half.count(CLS) == (half.count(SEP) if isolated else 1)
    ends = [n for n, i in enumerate(text) if i == SEP]
    return [text[a:b] for a, b in zip([0, *(n + 1 for n in ends)], ends, strict=False)]


@given(batch=batches(), length=st.integers(8, 40), isolated=st.booleans())
@settings(max_examples=60)
def test_a_sentence_and_its_translation_have_the_same_place_in_each_half(batch, length, isolated):
    options = {"max_seq_length": length, "languages": {}, "pair_rate": 1.0, "pair": -2}
    rows = Dataset.from_list(batch, features=PAIRS)
    packed = pack(rows, Special, isolate_sentences=isolated, **options)
    assert set(packed["language"]) == {-2}
    half, found = length // 2, []
    for row in packed:
        ids = row["input_ids"].tolist()
        assert len(ids) == 2 * half
        sides = [sentences_of(part, isolated) for part in (ids[:half], ids[half:])]
        found += zip(*sides, strict=True)
    expected, room = [], half - 2
    for row in batch:
        sides = row["source"], row["target"]
        share = min(1, room / max(map(len, sides)))
        # Whole, or the same share of both, a token more or less.
        cut = [int(np.ceil(round(len(side) * share, 6))) for side in sides]
        assert all(1 <= n <= room for n in cut)
        expected.append(tuple(side[:n] for side, n in zip(sides, cut, strict=True)))
    assert sorted(found) == sorted(expected)


def test_pairs_share_sequences_by_best_fit():
    """Sides of 10 to 22 tokens in halves of 64."""
    sizes = np.random.default_rng(0).integers(10, 23, (400, 2))
    batch = [
        {"source": [9] * a, "target": [9] * b, "index": i}
        for i, (a, b) in enumerate(sizes.tolist())
    ]
    options = {"max_seq_length": 128, "languages": {}, "pair_rate": 1.0, "isolate_sentences": True}
    packed = pack(Dataset.from_list(batch, features=PAIRS), Special, **options)
    padding = np.mean([i == PAD for i in chain.from_iterable(packed["input_ids"])])
    assert padding < 0.2


def test_the_tlm_rate_is_a_share_of_the_pairs_and_the_cut_are_counted(caplog):
    batch = [
        {"source": [n + 10] * 3, "target": [n + 10] * (40 if n < 7 else 4), "index": n}
        for n in range(1000)
    ]
    rows = Dataset.from_list(batch, features=PAIRS)

    def used(rate, seed=1):
        options = {"max_seq_length": 32, "languages": {}, "pair_rate": rate, "seed": seed}
        packed = pack(rows, Special, name="the verses", **options)
        return {int(i) for row in packed["input_ids"] for i in row} - {CLS, SEP, PAD}

    assert used(1.0) == set(range(10, 1010))
    some = used(0.25)
    assert 190 < len(some) < 310
    assert some < used(0.5)
    assert some == used(0.25) != used(0.25, seed=2)
    assert not used(0.0)
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert said[0].startswith("the verses: of 1000 pairs 7 do not fit half a sequence (14 tokens)")


def test_a_stream_takes_turns_with_pairs(doubled):
    batch = [{"source": [9], "target": [9], "index": n} for n in range(8)]
    rows = Dataset.from_list(batch, features=PAIRS)
    options = {"max_seq_length": 8, "languages": {}, "pair_rate": 1.0}
    pairs = pack(rows, Special, **options)
    stream = pack(rows.to_iterable_dataset(), Special, pair=-3, **options)
    assert [row["language"] for row in join([stream, pairs])] == [-3, -1] * 8


def test_the_same_sentences_alone_stand_beside_the_pairs(doubled):
    tokenizer = doubled[0]
    text = [f"{w} cat sat" for w in ("the", "a", "one", "this")]
    pairs = Dataset.from_list([{"en": a, "fr": doubled[1].spell(a)} for a in text])
    rows = tokenize_pairs(pairs, tokenizer, ("en", "fr"))
    options = {"max_seq_length": 32, "isolate_sentences": True}
    alone = pack(rows, tokenizer, languages={"source": 0, "target": 2}, **options)
    both = pack(rows, tokenizer, languages={}, pair_rate=1.0, pair=-2, **options)
    assert (set(alone["language"]), set(both["language"])) == ({0, 2}, {-2})
    tokens = [sorted(i for row in s["input_ids"] for i in row if i > 4) for s in (alone, both)]
    assert tokens[0] == tokens[1]
    train = EpochDataset(both).packed
    report = packing_report(train, {"en": alone, "fr": alone, "en-fr": both}, tokenizer, 32)
    # A set's tokens are looked up under the number of their rows: the pairs' were counted.
    baselines = [report[f"eval_{name}_frequency_baseline_loss"] for name in ("en", "en-fr")]
    assert baselines[1] < baselines[0] - 1

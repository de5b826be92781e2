"""Corpora: every format to the same rows, rows to both languages' ids, and errors in one line."""

import gzip
import json
import logging
import os
import shutil
from collections import Counter
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, IterableDataset

from hf_alignmlm import minienglish
from hf_alignmlm.data import encoding, formats
from hf_alignmlm.data.encoding import WordEncoder, tokenize_corpus
from hf_alignmlm.data.formats import check_file, file_format
from hf_alignmlm.data.rows import SENTENCES_PER_LINE, sentences
from hf_alignmlm.data.sources import (
    embedded_corpus,
    hub_corpus,
    join,
    load_splits,
    read_corpus,
    read_file,
    texts,
)
from hf_alignmlm.data.tokenizer import double_tokenizer
from hf_alignmlm.languages.synthetic import SyntheticLanguage

LINES = ["The cat sat. It saw Tom.", "", "  A dog, it said, is here!  ", "Who ?"]
WORDS = [["The", "cat", "sat", "."], ["Who", "?"]]
TREE = {"upos": ["DET", "NOUN", "VERB", "PUNCT"], "heads": [2, 3, 0, 3]}
TREE |= {"deprels": ["det", "nsubj", "root", "punct"]}
CONLLU = """# sent_id = 1
1\tThe\tthe\tDET\t_\t_\t2\tdet\t_\t_
2\tcat\tcat\tNOUN\t_\t_\t3\tnsubj\t_\t_
3\tsat\tsit\tVERB\t_\t_\t0\troot\t_\t_
4\t.\t.\tPUNCT\t_\t_\t3\tpunct\t_\t_

1\tWho\twho\tPRON\t_\t_\t0\troot\t_\t_
2\t?\t?\tPUNCT\t_\t_\t1\tpunct\t_\t_

"""


def put(path, data):
    """A file of text or bytes, compressed where its name says so."""
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def json_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def kept(rows, *columns):
    """The columns of rows that have something in them."""
    return [{c: row[c] for c in columns if row.get(c) is not None} for row in rows]


@pytest.fixture(scope="module")
def language(doubled):
    return doubled[1]


@pytest.fixture(scope="module")
def double(doubled):
    return doubled[0]


# --- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text"),
        ("a.txt.gz", "text"),
        ("a", "text"),
        ("a.en.tok", "text"),
        ("a.JSONL.gz", "json"),
        ("a.json", "json"),
        ("a.parquet", "parquet"),
        ("en-ud-dev.conllu.gz", "conllu"),
        ("v1.0/a.gz", "text"),
    ],
)
def test_a_name_tells_the_format(name, kind):
    assert file_format(name) == kind


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_text_json_and_conllu_plain_or_compressed(tmp_path, ending, streaming):
    text = put(tmp_path / f"a.txt{ending}", "\n".join(LINES) + "\n")
    assert kept(read_corpus([text], streaming=streaming), "text") == [{"text": t} for t in LINES]
    rows = [{"id": 1, "sentence": t} for t in LINES]
    sentence = put(tmp_path / f"b.jsonl{ending}", json_lines(rows))
    assert list(texts([read_corpus([sentence], streaming=streaming)])) == LINES
    tokens = put(tmp_path / f"c.json{ending}", json_lines({"tokens": w, "x": 0} for w in WORDS))
    read = list(read_corpus([tokens], streaming=streaming))
    assert read == [{"words": w} for w in WORDS]
    tree = put(tmp_path / f"d.conllu{ending}", CONLLU)
    read = list(read_corpus([tree], streaming=streaming))
    assert [row["words"] for row in read] == WORDS
    assert read[0] == {"words": WORDS[0], **TREE}


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet(tmp_path, streaming):
    pq.write_table(pa.table({"text": LINES, "n": [1, 2, 3, 4]}), tmp_path / "a.parquet")
    read = read_corpus([str(tmp_path / "a.parquet")], streaming=streaming)
    assert list(read) == [{"text": t} for t in LINES]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_files_of_several_formats_are_one_corpus(tmp_path, double, language, streaming, first):
    files = [
        put(tmp_path / "a.txt.gz", "The cat sat.\n\nWho?\n"),
        put(tmp_path / "b.jsonl", json_lines({"words": w} for w in WORDS)),
        put(tmp_path / "c.conllu", CONLLU),
        put(tmp_path / "d.jsonl", json_lines([{"text": "The cat sat."}, {"text": None}])),
    ]
    files = files[first:] + files[:first]
    read = read_corpus(files, streaming=streaming)
    assert Counter(texts([read])) == {
        "The cat sat.": 2,
        "": 2,
        "Who?": 1,
        "The cat sat .": 2,
        "Who ?": 2,
    }
    tokenized = list(tokenize_corpus(read, double, language))
    columns = WordEncoder(double, language).encode(WORDS, lambda words, i: range(len(words)))
    cat, who = columns["original"].to_pylist()
    found = Counter(tuple(row["original"]) for row in tokenized)
    assert found == {tuple(cat): 4, tuple(who): 3}


def test_a_local_folder_of_parquet_loads_by_its_name_like_the_hub(tmp_path):
    for split, lines in (("train", LINES), ("validation", LINES[:1])):
        pq.write_table(pa.table({"text": lines}), tmp_path / f"{split}.parquet")
    assert list(hub_corpus(str(tmp_path))) == [{"text": t} for t in LINES]
    for streaming in (False, True):
        train, validation = load_splits(dataset_name=str(tmp_path), streaming=streaming)
        assert list(texts([train])) == LINES
        assert list(texts([validation])) == LINES[:1]


def test_a_changed_file_gives_changed_data(tmp_path):
    """Of the same name and size: nothing may come from a cache."""
    for name, first, second in (
        ("a.conllu", CONLLU, CONLLU.replace("cat", "dog")),
        ("a.txt", "The cat .\n", "The dog .\n"),
        ("a.jsonl.gz", json_lines([{"text": "The cat ."}]), json_lines([{"text": "The dog ."}])),
    ):
        for content, word, time in ((first, "cat", 10**9), (second, "dog", 10**9 + 1)):
            path = put(tmp_path / name, content)
            os.utime(path, (time, time))
            assert word in next(texts([read_corpus([path])]))


def test_changed_code_gives_changed_data(tmp_path, monkeypatch):
    """What makes rows is part of the caches' keys, by its digest."""
    path = put(tmp_path / "a.conllu", CONLLU)
    before = [embedded_corpus(count=3)["words"][:], read_corpus([path])["words"][:]]
    original = minienglish.sentences

    def changed(count, **options):
        return islice(original(**options), 1, count + 1)

    monkeypatch.setattr(minienglish, "sentences", changed)
    monkeypatch.setattr(formats, "read_conllu", lambda *_, **__: original(2))
    monkeypatch.setattr(formats, "code_digest", lambda: "other")
    after = [embedded_corpus(count=3)["words"][:], read_corpus([path])["words"][:]]
    assert before[0][1:] == after[0][:2]
    assert before[1] != after[1]


# --- errors ---------------------------------------------------------------------------------------

MANY = "".join(f"line {i}, which is a line of text\n" for i in range(40_000)).encode()
assert len(MANY) > formats.SAMPLE


def damaged(data, place=0.5):
    data = bytearray(gzip.compress(data))
    start = int(len(data) * place)
    data[start : start + 60] = b"\xff" * 60
    return bytes(data)


BAD = {
    "missing.txt": (None, "no such file"),
    "empty.txt": (b"", "is empty"),
    "blank.txt": (b" \n\n", "is empty: it has only white space"),
    "empty.txt.gz": (gzip.compress(b""), "is empty"),
    "latin.txt": ("a\nb\ncafé\n".encode("latin-1"), "line 3, is not UTF-8 text: convert it first"),
    "utf16.txt": ("a café".encode("utf-16"), "line 1, is not UTF-8 text"),
    "cut.txt": ("café".encode()[:-1], "line 1, is not UTF-8 text"),
    "latin.txt.gz": (gzip.compress(b"a\ncaf\xe9"), "line 2, is not UTF-8 text"),
    "latin.jsonl": (b'{"text": "caf\xe9"}', "line 1, is not UTF-8 text"),
    "late.txt": (MANY + b"caf\xe9\n", "line 40001, is not UTF-8 text"),
    "late.txt.gz": (gzip.compress(MANY + b"caf\xe9\n"), "line 40001, is not UTF-8 text"),
    "late.jsonl": (
        b'{"text": "a line of text"}\n' * 50_000 + b'{"text": "caf\xe9"}\n',
        "line 50001, is not UTF-8 text",
    ),
    "late.conllu": (CONLLU.encode() * 8_000 + b"caf\xe9\n", "line 72001, is not UTF-8 text"),
    "plain.txt.gz": (b"not compressed", "is a damaged gzip file"),
    "short.txt.gz": (gzip.compress(MANY)[:5000], "is a damaged gzip file"),
    "nearly.txt.gz": (gzip.compress(MANY)[:-9], "is a damaged gzip file"),
    "hurt.txt.gz": (damaged(MANY, 0.01), "is a damaged gzip file"),
    "hurt late.txt.gz": (damaged(MANY, 0.99), "is a damaged gzip file"),
    "hurt.conllu.gz": (damaged(CONLLU.encode() * 9, 0.2), "is a damaged gzip file"),
    "bad.conllu": (b"not a table\n", ": not CoNLL-U after sentence 0"),
    "bad.jsonl": (b"not json\n", "cannot be read as json"),
    "bad.parquet": (b"not parquet\n", "cannot be read as parquet"),
    "empty.parquet": (b"", "is empty"),
    "columns.jsonl": (b'{"a": 1, "b": 2}\n', "has the columns a, b: name the text's column text"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_errors_of_one_line_that_name_them(tmp_path, name):
    data, reason = BAD[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    good = put(tmp_path / "good.txt", "Good text.\n")
    with pytest.raises((ValueError, OSError), match=reason) as caught:
        read_corpus([good, str(tmp_path / name)])
    assert str(caught.value).count(str(tmp_path / name)) == 1
    assert "\n" not in str(caught.value)


def test_a_folder_is_an_error(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder: name the files in it"):
        read_corpus([str(tmp_path)])


def test_check_file_reads_the_start_alone(tmp_path):
    path = put(tmp_path / "a.txt", MANY + b"caf\xe9\n")
    check_file(path)
    with pytest.raises(ValueError, match="line 40001, is not UTF-8"):
        read_file(path)


def test_text_across_the_edge_of_the_sample_is_whole(tmp_path):
    check_file(put(tmp_path / "a.txt", "é" * formats.SAMPLE))


# --- splits ---------------------------------------------------------------------------------------


def test_the_last_part_is_for_validation_where_there_is_no_other(tmp_path):
    path = put(tmp_path / "a.txt", "".join(f"line {i}\n" for i in range(200)))
    train, validation = load_splits([path], validation_split_percentage=10)
    assert [len(train), len(validation)] == [180, 20]
    assert list(texts([train, validation])) == [f"line {i}" for i in range(200)]
    # The cache knows rows by this name: drawn at random, it would never find them again.
    again = load_splits([path], validation_split_percentage=10)
    assert [part._fingerprint for part in again] == [train._fingerprint, validation._fingerprint]


def test_the_first_rows_of_a_stream_are_for_validation(tmp_path):
    path = put(tmp_path / "a.txt", "".join(f"line {i}\n" for i in range(1200)))
    for count, expected in ((None, 1000), (7, 7)):
        train, validation = load_splits([path], streaming=True, max_eval_samples=count)
        assert list(texts([validation, train])) == [f"line {i}" for i in range(1200)]
        assert sum(1 for _ in validation) == expected


@pytest.mark.parametrize("streaming", [False, True])
def test_validation_files_and_sample_limits(tmp_path, streaming):
    train = put(tmp_path / "a.txt", "".join(f"line {i}\n" for i in range(20)))
    validation = put(tmp_path / "b.jsonl", json_lines({"text": f"row {i}"} for i in range(20)))
    splits = load_splits(
        [train], [validation], streaming=streaming, max_train_samples=5, max_eval_samples=50
    )
    assert list(texts(splits[:1])) == [f"line {i}" for i in range(5)]
    assert list(texts(splits[1:])) == [f"row {i}" for i in range(20)]


def test_splits_that_cannot_be_are_refused(tmp_path):
    path = put(tmp_path / "a.txt", "one line\n")
    with pytest.raises(ValueError, match="give a --validation_file"):
        load_splits([path])
    with pytest.raises(ValueError, match="--train_file or --dataset_name, not both"):
        load_splits([path], dataset_name="somewhere")
    for percentage in (0, 100, -1):
        with pytest.raises(ValueError, match="validation_split_percentage must lie between"):
            load_splits([path], validation_split_percentage=percentage)


def test_the_embedded_corpus_is_the_default():
    train, validation = load_splits(streaming=True)
    first = [row["words"] for row in train.take(5)]
    assert first == [list(s.words) for s in islice(minienglish.sentences(), 5)]
    assert first != [row["words"] for row in validation.take(5)]


def test_any_amount_of_the_embedded_corpus_streamed_or_not():
    stream = embedded_corpus(count=10**9, streaming=True)
    assert isinstance(stream, IterableDataset)
    corpus = embedded_corpus(count=250)
    assert isinstance(corpus, Dataset)
    assert len(corpus) == 250
    assert list(corpus) == list(stream.take(250))
    assert set(corpus.column_names) == {"words", "upos", "heads", "deprels"}
    assert embedded_corpus(count=5, seed=1)["words"][:] != corpus["words"][:5]
    assert embedded_corpus("test", count=5)["words"][:] != corpus["words"][:5]


@pytest.mark.parametrize("streaming", [False, True])
def test_trees_of_any_format_join(tmp_path, streaming):
    row = {"tokens": WORDS[0], **TREE}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    Dataset.from_list([{"words": WORDS[0], **TREE}]).to_parquet(tmp_path / "b.parquet")
    lines = [
        f"{i}\t{word}\t_\t{upos}\t_\t_\t{head}\t{deprel}\t_\t_\n"
        for i, (word, upos, head, deprel) in enumerate(
            zip(WORDS[0], *(TREE[c] for c in ("upos", "heads", "deprels")), strict=True), 1
        )
    ]
    (tmp_path / "c.conllu").write_text("".join(lines) + "\n")
    paths = [str(tmp_path / name) for name in ("a.jsonl", "b.parquet", "c.conllu")]
    rows = list(read_corpus(paths, streaming=streaming))
    assert rows == [{"words": WORDS[0], **TREE}] * 3


@pytest.mark.parametrize(
    "name",
    [
        *(
            "data/sources.py",
            "data/formats.py",
            "data/encoding.py",
            "data/tokenizer.py",
            "data/packing.py",
        ),
        *("languages/synthetic.py", "languages/superstrates/fr.json", "minienglish/grammar.json"),
        *("objectives/collator.py", "tasks/base.py", "hub/builders.py"),
    ],
)
def test_the_digest_is_of_all_code_that_makes_rows(tmp_path, monkeypatch, name):
    here = Path(formats.__file__).parent.parent
    shutil.copytree(here, tmp_path / "code", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(formats, "__file__", str(tmp_path / "code" / "data" / "formats.py"))
    digest = formats.code_digest.__wrapped__
    before = digest()
    path = tmp_path / "code" / name
    path.write_text(path.read_text() + " \n")
    assert digest() != before


def test_joined_streams_take_turns_and_joined_tables_follow():
    one = [{"text": f"a{i}"} for i in range(4)]
    two = [{"text": f"b{i}"} for i in range(2)]
    tables = [Dataset.from_list(one), Dataset.from_list(two)]
    assert list(texts([join(tables)])) == ["a0", "a1", "a2", "a3", "b0", "b1"]
    streams = [table.to_iterable_dataset() for table in tables]
    assert list(texts([join(streams)])) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_texts_of_a_stream_are_limited_and_of_a_table_are_not():
    table = Dataset.from_list([{"text": str(i)} for i in range(9)])
    assert list(texts([table], limit=3)) == list(map(str, range(9)))
    assert list(texts([table.to_iterable_dataset()] * 2, limit=3)) == ["0", "1", "2"] * 2


# --- sentences ------------------------------------------------------------------------------------


def test_a_line_is_split_into_sentences_and_these_into_the_tokenizers_words(double, language):
    row = {"text": "  Mr. Smith doesn't know.  Who does?\t"}
    found = list(sentences(row, 3, WordEncoder(double, language).words))
    assert [words for words, _, _ in found] == [
        ["Mr", ".", "Smith", "doesn", "'", "t", "know", "."],
        ["Who", "does", "?"],
    ]
    assert [index for _, _, index in found] == [3 * SENTENCES_PER_LINE, 3 * SENTENCES_PER_LINE + 1]
    assert list(sentences({"text": " \t"}, 3, WordEncoder(double, language).words)) == []


def test_words_keep_their_sentence_and_their_tree(double, language):
    row = {"words": ["A.", "b", "?", "c"], "upos": None, "heads": None, "deprels": None}
    assert list(sentences(row, 2, WordEncoder(double, language).words)) == [
        (row["words"], None, 2 * SENTENCES_PER_LINE)
    ]
    (_, tree, _), *_ = sentences(
        {"words": WORDS[0], **TREE}, 0, WordEncoder(double, language).words
    )
    assert vars(tree) == TREE
    partial = {"words": WORDS[0], **TREE, "heads": [2, None, 0, 3]}
    (_, tree, _), *_ = sentences(partial, 0, WordEncoder(double, language).words)
    assert tree is None


# --- both languages' ids --------------------------------------------------------------------------


def lines_of(embedded, count):
    """Rows of text, of one to three sentences, some empty."""
    joined = [" ".join(s.words) for s in embedded[: 2 * count]]
    return [" ".join(joined[i : i + i % 4]) for i in range(count)]


def test_a_row_is_a_sentence_in_both_languages(embedded, double, language):
    lines = lines_of(embedded, 120)
    rows = tokenize_corpus(Dataset.from_dict({"text": lines}), double, language)
    encoder, row = WordEncoder(double, language), iter(rows)
    for number, line in enumerate(lines):
        for words, _, index in sentences({"text": line}, number, encoder.words):
            found, order = next(row), language.order(words, index=index)
            derived = " ".join(language.derive(words, index=index))
            assert (found["index"], found["order"]) == (index, order)
            for text, column in ((" ".join(words), "original"), (derived, "derived")):
                assert found[column] == double(text, add_special_tokens=False)["input_ids"]
            assert sum(found["pieces"]) == len(found["original"])
            assert len(found["pieces"]) == len(words)
    assert next(row, None) is None


@pytest.mark.parametrize("name", ["trans_perm", "trans50_syn-fr"])
def test_processes_and_streams_give_the_same_rows(embedded, tokenizer, name):
    double, language = double_tokenizer(tokenizer, SyntheticLanguage.from_name(name))
    columns = ("words", "upos", "heads", "deprels")
    corpus = Dataset.from_list([{c: getattr(s, c) for c in columns} for s in embedded[:150]])
    one = tokenize_corpus(corpus, double, language, num_proc=1)
    two = tokenize_corpus(corpus, double, language, num_proc=2)
    stream = tokenize_corpus(corpus.to_iterable_dataset(), double, language)
    assert one[:] == two[:]
    assert list(one) == list(stream)
    assert one["index"][:] == [i * SENTENCES_PER_LINE for i in range(150)]
    moved = sum(order != sorted(order) for order in one["order"])
    assert moved > 100


def test_a_permutation_depends_on_the_line_and_the_sentence_alone(embedded, tokenizer):
    double, language = double_tokenizer(tokenizer, SyntheticLanguage.from_name("trans_perm"))
    lines = lines_of(embedded, 60)
    other = ["One. Two. Three." if i % 2 else line for i, line in enumerate(lines)]

    def orders(texts):
        rows = tokenize_corpus(Dataset.from_dict({"text": texts}), double, language)
        even = (row for row in rows if not row["index"] // SENTENCES_PER_LINE % 2)
        return {row["index"]: (row["original"], row["derived"], row["order"]) for row in even}

    assert orders(lines) == orders(other)
    for index, (_, _, order) in orders(lines).items():
        assert order == language.order(["x"] * len(order), index=index)
    repeated = tokenize_corpus(Dataset.from_dict({"text": [lines[3]] * 20}), double, language)
    assert (
        len(
            {
                tuple(o)
                for o, i in zip(repeated["order"], repeated["index"], strict=True)
                if i % 4096 == 0
            }
        )
        > 15
    )


@pytest.fixture
def warnings_of_corpora(caplog, monkeypatch):
    """The library's loggers do not propagate; here they do, to be seen."""
    monkeypatch.setattr(encoding.logger, "propagate", True)
    root = logging.getLogger("hf_alignmlm")
    monkeypatch.setattr(root, "propagate", True)
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("column", ["text", "words"])
def test_lines_in_the_derived_script_are_skipped_and_reported(
    warnings_of_corpora, double, language, column, streaming
):
    lines = ["The cat .", "", "Who ?", f"The {language.spell('cat')} .", "The end ."]
    lines += [language.spell("all of it"), f"Who{language.spell('?')}"]
    rows = [line.split() if column == "words" else line for line in lines]
    corpus = Dataset.from_dict({column: rows})
    if streaming:
        corpus = corpus.to_iterable_dataset()
    tokenized = tokenize_corpus(corpus, double, language, name="my corpus")
    found = [row["index"] // SENTENCES_PER_LINE for row in tokenized]
    assert found == [0, 2, 4]
    (record,) = warnings_of_corpora.records
    assert "my corpus" in record.getMessage()
    assert "line 4" in record.getMessage()
    assert streaming or "skipped 3 line(s)" in record.getMessage()


@pytest.mark.parametrize("column", ["text", "words"])
def test_the_first_null_of_a_stream_is_named(warnings_of_corpora, tmp_path, column):
    values = ["a b", None, None, "c"] if column == "text" else [["a"], None, None, ["c"]]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({column: value}) + "\n" for value in values))
    assert len(list(read_corpus([str(path)], streaming=True))) == 4
    (record,) = warnings_of_corpora.records
    assert record.getMessage().startswith(f"{path}, row 2 has no {column}")


def test_a_language_without_a_script_skips_nothing(tokenizer, language):
    corpus = Dataset.from_dict({"text": [language.spell("The cat"), "The cat"]})
    assert len(tokenize_corpus(corpus, tokenizer, SyntheticLanguage("inv"))) == 2


def test_a_corpus_of_nothing_else_is_an_error(double, language):
    corpus = Dataset.from_dict({"text": [language.spell("The cat .")] * 3})
    with pytest.raises(ValueError, match=r"left: all of its lines use the derived script"):
        tokenize_corpus(corpus, double, language, name="my corpus")
    with pytest.raises(ValueError, match=r"^my corpus has no sentence left$"):
        tokenize_corpus(Dataset.from_dict({"text": ["", " "]}), double, language, name="my corpus")


def test_tokens_are_those_of_the_words_and_nothing_is_lost(embedded, double, language):
    corpus = Dataset.from_list([{"words": s.words} for s in embedded[:200]])
    rows = tokenize_corpus(corpus, double, language)
    flat = Counter(chain.from_iterable(rows["original"]))
    whole = " ".join(chain.from_iterable(s.words for s in embedded[:200]))
    assert flat == Counter(double(whole, add_special_tokens=False)["input_ids"])
    derived = Counter(chain.from_iterable(rows["derived"]))
    assert derived == Counter({i + 600: count for i, count in flat.items()})

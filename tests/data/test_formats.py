"""Files of every format: what is right is read, what is wrong is one line that says where."""

import bz2
import gzip
import json
import logging
import lzma
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from hf_alignmlm import files
from hf_alignmlm.data import formats, sources
from hf_alignmlm.data.formats import column_rows, read_file
from hf_alignmlm.data.sources import load_splits, read_corpus

BOM = "\ufeff"
PACKED = {".gz": gzip, ".GZ": gzip, ".bz2": bz2, ".xz": lzma}


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def put(folder, name, data):
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


def texts(*values):
    return [{"text": value} for value in values]


CONLLU = "# c\n1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n1\tde\t_\tADP\t_\t_\t0\troot\t_\t_\n"
CONLLU += "2\tle\t_\tDET\t_\t_\t1\tdet\t_\t_\n\n"
TREE = [
    {"words": ["de", "le"], "upos": ["ADP", "DET"], "heads": [0, 1], "deprels": ["root", "det"]}
]
GOOD = {
    "bom.txt": (f"{BOM}a b\n", texts("a b")),
    "bom.jsonl": (BOM + lines({"text": "a"}), texts("a")),
    "bom.csv": (f"{BOM}text,n\na,1\n", texts("a")),
    "bom.conllu": (BOM + CONLLU, TREE),
    "crlf.txt": ("a\r\nb\r\n", texts("a", "b")),
    "crlf.csv": ("text,n\r\na,1\r\n", texts("a")),
    "crlf.bio": ("a O\r\n\r\nb O\r\n", [{"words": ["a"]}, {"words": ["b"]}]),
    "quoted.csv": ('n,text\n1,"a, ""b""\nc"\n2,5" d\n', texts('a, "b"\nc', '5" d')),
    "numbers.csv": ("text\n5\n6\n", texts("5", "6")),
    "quotes.tsv": ('text\tn\n"a, b\t1\nc"\t2\n', texts('"a, b', 'c"')),
    "keys.jsonl": (lines({"text": "a"}, {"n": 5}, {"text": "b", "z": [1]}), texts("a", None, "b")),
    "null.jsonl": (lines({"text": None}, {"text": "a"}), texts(None, "a")),
    "types.jsonl": (lines({"text": "a", "n": 1}, {"text": "b", "n": 2.5}), texts("a", "b")),
    "array.json": (json.dumps(texts("a", "b"), indent=1), texts("a", "b")),
    "head.jsonl": (
        lines({"words": ["a"], "upos": ["X"], "head": [0], "deprel": ["root"]}),
        [{"words": ["a"], "upos": ["X"], "heads": [0], "deprels": ["root"]}],
    ),
    "ner.conll": (f"{BOM}# c\nNew York\tPROPN\tB-LOC\n", [{"words": ["New York"]}]),
    "tree.conll": (CONLLU, TREE),
    "star*.txt": ("star\n", texts("star")),
    "a[b]?.jsonl": (lines({"text": "brackets"}), texts("brackets")),
    "gzip::a.txt": ("colons\n", texts("colons")),
    "x::[y]*.csv": ("text\ncolons\n", texts("colons")),
    ".hidden.txt": ("hidden\n", texts("hidden")),
}
GOOD |= {f"a.txt{e}": (m.compress(b"packed\n"), texts("packed")) for e, m in PACKED.items()}
GOOD["a.jsonl.bz2"] = (bz2.compress(lines({"text": "packed"}).encode()), texts("packed"))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", GOOD)
def test_what_is_right_is_read(tmp_path, name, streaming):
    data, rows = GOOD[name]
    for other in ("starAB.txt", "ab1.jsonl", "a.txt"):
        put(tmp_path, other, "another file\n")
    read = list(read_corpus([put(tmp_path, name, data)], streaming=streaming))
    assert read == rows


NO_TEXT = "stands where a text belongs"
NO_WORDS = "stands where a list of words belongs"
BAD = {
    "five.jsonl": (lines({"text": 5}), f"row 1: 5 {NO_TEXT}"),
    "true.jsonl": (lines({"text": None}, {"text": True}), f"row 2: True {NO_TEXT}"),
    "struct.jsonl": (lines({"text": {"en": "a"}}), f"row 1: {{'en': 'a'}} {NO_TEXT}"),
    "mixed.jsonl": (lines({"text": "a"}, {"text": 5}), "row 2: "),
    "late.jsonl": (lines(*texts("a") * 1500, {"text": ["a"]}, *texts("a")), "row 1501: "),
    "null.jsonl": (
        lines({"words": ["a"]}, {"words": ["a", None, "b"]}),
        rf"row 2: \['a', None, 'b'\] {NO_WORDS}",
    ),
    "nested.jsonl": (lines({"words": [["a"]]}), rf"row 1: \[\['a'\]\] {NO_WORDS}"),
    "numbers.jsonl": (lines({"tokens": [1, 2]}), rf"row 1: \[1, 2\] {NO_WORDS}"),
    "string.jsonl": (lines({"words": "a b"}), f"row 1: 'a b' {NO_WORDS}"),
    "mixed words.jsonl": (lines({"words": ["a"]}, {"words": ["a", 1]}), "row 2: "),
    "words.csv": ("words\na\n", f"row 1: 'a' {NO_WORDS}"),
    "surrogate.jsonl": ('{"text": "\\ud800"}\n', "line 1 is not JSON .*; give an object a line"),
    "object.json": (json.dumps({"text": "a"}, indent=1), "line 1 is not JSON"),
    "second.jsonl": (lines({"text": "a"}) + "\n{'text'}\n", "line 3 is not JSON"),
    "scalar.jsonl": ("5\n", "line 1: no object of names and values"),
    "deep.json": ("[" * 100_000, "line 1 is not JSON"),
    "none.json": ("[]", "has no rows"),
    "object.jsonl": ("{}\n", "has no rows"),
    "header.csv": ("text,n\n", "has no rows"),
    "empty.csv": ("", "is empty"),
    "blank.txt": ("\n" * 100_000, "is empty: it has only white space"),
    "twice.csv": ("text,text\na,b\n", "two columns of one name"),
    "ragged.csv": ("text\na, b\n", "line 2: 2 columns, but 1 names in the first line"),
    "open.csv": ('text\n"a\nb\n', "line 3: unexpected end of data; close the quotes"),
    "text.parquet": ("hello, this is text\n", "cannot be read as parquet"),
    "nul.txt": ("a\nb\0\n", "line 2, is not UTF-8 text: convert it first"),
    "utf16.jsonl": (lines({"text": "a"}).encode("utf-16"), "line 1, is not UTF-8 text"),
    "utf16 le.csv": ("text\n".encode("utf-16-le"), "line 1, is not UTF-8 text"),
    "latin.csv": ("text\ncafé\n".encode("latin-1"), "line 2, is not UTF-8 text"),
    "late.csv": (("text\n" + "a\n" * 600_000 + "é").encode("latin-1"), "line 600002, is not UTF"),
    "word.conll": ("a O\nb\n", "line 2: a word without a tag"),
    "tag.iob": ("a O\nb\t\n", "line 2: a word without a tag"),
    "a.txt.zst": ("a", ".zst is not supported; unpack it"),
    "a.jsonl.ZIP": ("a", ".zip is not supported; unpack it"),
    "heads.jsonl": (
        lines({"words": ["a"], "upos": ["X"], "heads": ["x"], "deprels": ["root"]}),
        "cannot be read as rows: Failed to parse string: 'x'",
    ),
}
for ending, module in PACKED.items():
    kind = module.__name__
    BAD[f"plain.csv{ending}"] = ("text\n", f"is a damaged {kind} file")
    cut = module.compress(bytes(range(32, 127)) * 40)[:-12]
    BAD[f"cut.jsonl{ending}"] = (cut, f"is a damaged {kind} file")


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_one_line_that_names_file_and_row(tmp_path, name):
    data, reason = BAD[name]
    path = put(tmp_path, name, data)
    with pytest.raises((ValueError, OSError), match=reason) as caught:
        read_corpus([path])
    assert str(caught.value).count(path) == 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": 5}, f"row 3: 5 {NO_TEXT}"),
        ({"text": ["a"]}, rf"row 3: \['a'\] {NO_TEXT}"),
        ({"words": "a b"}, f"row 3: 'a b' {NO_WORDS}"),
        (TREE[0] | {"heads": [0.5, 1]}, "row 3 cannot be read as rows: .*0.5"),
        (TREE[0] | {"heads": 0}, "row 3 cannot be read as rows: "),
    ],
)
def test_a_row_of_a_stream_is_checked_as_it_comes(tmp_path, row, reason):
    first = TREE[0] if "words" in row else {"text": "a"}
    path = put(tmp_path, "a.jsonl", lines(first, {"n": 1}, row))
    with pytest.raises(ValueError, match=rf"a\.jsonl, {reason}"):
        list(read_corpus([path], streaming=True))


def test_nulls_are_counted_in_one_warning(tmp_path, caplog, monkeypatch):
    for name in ("hf_alignmlm", sources.logger.name):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    path = put(tmp_path, "a.jsonl", lines(*texts("a", None, "b", None), {}))
    train, _ = load_splits([path], [path])
    assert list(train["text"]) == ["a", None, "b", None, None]
    assert {r.getMessage() for r in caplog.records} == {f"{path}: skipped 3 row(s) without text"}


def test_strings_of_any_size_join_and_a_folder_needs_no_validation_set(tmp_path):
    large = pa.table({"text": pa.array(["a", "b"], pa.large_string()), "n": [1, 2]})
    lists = pa.array([["a"], None], pa.large_list(pa.large_string()))
    pq.write_table(pa.table({"words": lists}), tmp_path / "lists.parquet")
    read = list(read_corpus([str(tmp_path / "lists.parquet")]))
    assert read == [{"words": ["a"]}, {"words": None}]
    (tmp_path / "lists.parquet").unlink()
    pq.write_table(large, tmp_path / "train.parquet")
    plain = put(tmp_path, "a.txt", "c\n")
    for streaming in (False, True):
        paths = [str(tmp_path / "train.parquet"), plain]
        assert list(read_corpus(paths, streaming=streaming)) == texts("a", "b", "c")
    (tmp_path / "a.txt").unlink()
    train, validation = load_splits(dataset_name=str(tmp_path))
    assert [list(train), list(validation)] == [texts("a"), texts("b")]
    Dataset.from_dict({"text": [1, 2]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=f"^{tmp_path}, row 1: 1 {NO_TEXT}"):
        load_splits(dataset_name=str(tmp_path))
    put(tmp_path, "train.parquet", "this is no parquet file")
    with pytest.raises(ValueError, match=f"^{tmp_path}|{tmp_path}"):
        load_splits(dataset_name=str(tmp_path))


WRONG_TYPES = {
    "binary": ({"text": pa.array([b"a"])}, f"row 1: b'a' {NO_TEXT}"),
    "map": ({"text": pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string()))}, "map<string"),
    "heads": (
        {"words": [["a"]], "upos": ["X"], "heads": [0], "deprels": ["root"]},
        "Couldn't cast",
    ),
    "real": ({**{c: [v] for c, v in TREE[0].items()}, "heads": [[0.5, 1.0]]}, "value 0.5"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_columns_of_other_types_are_refused_in_files_and_folders(tmp_path, name):
    columns, reason = WRONG_TYPES[name]
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    for options in ({"train_file": [f"{tmp_path}/train.parquet"]}, {"dataset_name": str(tmp_path)}):
        with pytest.raises(ValueError, match=f"^{tmp_path}.*{reason}") as caught:
            load_splits(**options)
        assert "\n" not in str(caught.value)


def test_columns_are_parted_by_tabs_or_ascii_white_space(tmp_path):
    data = f"{BOM}# id = 1\nNew York\tPROPN\tB-LOC\n\n-DOCSTART- -X- O\n\n# id = 2\n"
    data += "a\u00a0b  X \t O\nis O\n# O\n\n\n1\u00a0000 B-NUM\n"
    rows = [
        {"tokens": ["New York"], "tags": ["B-LOC"]},
        {"tokens": ["a\u00a0b  X", "is", "#"], "tags": ["O"] * 3},
        {"tokens": ["1\u00a0000"], "tags": ["B-NUM"]},
    ]
    assert list(column_rows(put(tmp_path, "a.txt", data))) == rows
    assert list(read_file(put(tmp_path, "a.conll", data))) == rows


def test_all_columns_of_a_table_keep_their_types(tmp_path):
    path = put(tmp_path, "a.csv", "premise,hypothesis,label\n1,b,0\nc,2,1\n")
    assert list(read_file(path)) == [
        {"premise": "1", "hypothesis": "b", "label": 0},
        {"premise": "c", "hypothesis": "2", "label": 1},
    ]


def peak_of(read):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="too long: break it into lines"):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "name", ["a.txt.gz", "a.jsonl.gz", "a.csv.gz", "a.conll.gz", "a.conllu.gz"]
)
def test_what_a_bomb_expands_to_is_read_in_bounded_memory(tmp_path, monkeypatch, name):
    for module in (files, formats):
        monkeypatch.setattr(module, "LONGEST_LINE", 1 << 20)
    path = put(tmp_path, name, gzip.compress(b"a" * 50_000_000))
    assert peak_of(lambda: read_file(path)) < 10_000_000


def test_a_sentence_and_an_array_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "LONGEST_SENTENCE", 10)
    monkeypatch.setattr(formats, "LONGEST_LINE", 100)
    with pytest.raises(ValueError, match="line 11: part the sentences by blank lines"):
        read_file(put(tmp_path, "a.conll", "a O\n" * 20))
    with pytest.raises(ValueError, match="too large for one array: give an object a line"):
        read_file(put(tmp_path, "a.json", json.dumps(texts(*"a" * 20), indent=1)))

"""Rows that are not as they should be: understood, skipped and counted, or one line of error."""

import json

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.tasks import TASKS, read_task

PAIR = {"premise": "Tom sleeps .", "hypothesis": "He wakes ."}
NAMES = ["entailment", "neutral", "contradiction"]
TEXT, TEXTS = Value("string"), List(Value("string"))
TREE = {"upos": ["PRON", "VERB"], "heads": [2, 0], "deprels": ["nsubj", "root"]}


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(task, train, test=None):
    return read_task(TASKS[task], str.split, files={"train": train, "test": test or train})


def pairs(labels):
    return [PAIR | {"label": label} for label in labels]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "classes"])
@pytest.mark.parametrize("label", [-1, None, "-", "", "-1"])
def test_pairs_without_a_label_are_skipped_and_counted(tmp_path, kind, label):
    usual = 0 if label == -1 else "neutral"
    rows = pairs([usual] * 17 + [label] + [usual] * 12)
    path = tmp_path / ("rows.jsonl" if kind == "jsonl" else "rows.parquet")
    if kind == "jsonl":
        lines(path, rows)
    else:
        label_type = ClassLabel(names=NAMES) if kind == "classes" and label in (-1, None) else None
        label_type = label_type or Value("int64" if label == -1 else "string")
        features = Features({"premise": TEXT, "hypothesis": TEXT, "label": label_type})
        Dataset.from_list(rows, features=features).to_parquet(path)
    data = read("nli", str(path))
    assert [len(rows) for rows in data.rows.values()] == [29, 29]
    assert data.empty_sentences == 2


@pytest.mark.parametrize(
    ("labels", "tags"),
    [
        (["Entailment", " NEUTRAL", "contradictory", "Contradiction"], [0, 1, 2, 2]),
        ([0, 1, 2], [0, 1, 2]),
    ],
)
def test_labels_are_understood(tmp_path, labels, tags):
    data = read("nli", lines(tmp_path / "a.jsonl", pairs(labels)))
    assert [row.tags for row in data.rows["test"]] == [[NAMES[tag]] for tag in tags]


@pytest.mark.parametrize("label", [True, 1.0, 0.5, {"a": 1}, [1], "maybe", 3, "0", -2])
def test_another_label_names_file_and_row_in_test_sets_too(tmp_path, label):
    train = lines(tmp_path / "train.jsonl", pairs([0, 1, 2]))
    test = lines(tmp_path / "test.jsonl", pairs([label]))
    with pytest.raises(ValueError, match=r"test\.jsonl, test row 1: label .* is not one of ent"):
        read("nli", train, test)


@pytest.mark.parametrize("names", [NAMES[::-1], ["yes", "no", "maybe"]])
def test_a_datasets_classes_count_by_their_names(tmp_path, names):
    features = Features({"premise": TEXT, "hypothesis": TEXT, "label": ClassLabel(names=names)})
    path = tmp_path / "a.parquet"
    Dataset.from_list(pairs([0, 1]), features=features).to_parquet(path)
    if names[0] == "yes":
        with pytest.raises(ValueError, match=r"a\.parquet, train row 1: label 'yes'"):
            read("nli", str(path))
    else:
        tags = [row.tags[0] for row in read("nli", str(path)).rows["train"]]
        assert tags == ["contradiction", "neutral"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("I-PER I-PER B-PER O I-LOC I-PER", "B-PER I-PER B-PER O B-LOC B-PER"),
        ("B-PER I-PER O B-LOC", "B-PER I-PER O B-LOC"),
        ("S-LOC O B-PER E-PER O S-LOC", "B-LOC O B-PER I-PER O B-LOC"),
        ("U-LOC U-LOC B-PER I-PER L-PER B-PER L-PER", "B-LOC B-LOC B-PER I-PER I-PER B-PER I-PER"),
        ("B-PER E-PER S-PER S-PER E-PER", "B-PER I-PER B-PER B-PER B-PER"),
        ("B-geo-nam I-geo-nam I-geo", "B-geo-nam I-geo-nam B-geo"),
    ],
)
def test_every_scheme_of_entity_tags_becomes_iob2(tmp_path, tags, expected):
    row = {"tokens": ["a"] * len(tags.split()), "ner_tags": tags.split()}
    data = read("ner", lines(tmp_path / "a.jsonl", [row]))
    assert data.rows["train"][0].tags == expected.split()


WORDS = {"tokens": ["He", "wakes"]}


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        *(
            ("ner", WORDS | {"ner_tags": ["O", tag]}, f"row 2: {tag!r} is no entity tag")
            for tag in ("PER", "X-PER", "B-", "B-PER ", "o", "B_PER", "-")
        ),
        ("ner", WORDS | {"ner_tags": ["O", ""]}, "row 2: tags must be strings"),
        ("ner", WORDS | {"ner_tags": ["O", None]}, "row 2: tags must be strings"),
        ("ner", WORDS | {"ner_tags": ["O"]}, "row 2: 2 words but 1 tags"),
        ("pos", WORDS | {"upos": ["PRON", ""]}, "row 2: tags must be strings"),
        ("ner", {"tokens": ["a", None], "ner_tags": ["O", "O"]}, "row 2: .* a list of words"),
    ],
)
def test_tags_and_words_of_another_kind_name_file_and_row(tmp_path, task, row, message):
    good = WORDS | {"ner_tags": ["O", "O"], "upos": ["X", "X"]}
    path = lines(tmp_path / "a.jsonl", [good, row])
    with pytest.raises(ValueError, match=rf"a\.jsonl, train {message}"):
        read(task, path)


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("nli", PAIR | {"premise": {"en": "a", "fr": "b"}}, "premise: .* where a text belongs"),
        ("nli", PAIR | {"hypothesis": 5}, "hypothesis: 5 stands where a text belongs"),
        ("nli", PAIR | {"premise": [["a"]]}, "premise: .* where a list of words belongs"),
        ("nli", {"premise": "a"}, "no column hypothesis among premise, label"),
        ("ner", {"tokens": [1, 2], "ner_tags": ["O", "O"]}, "a list of words belongs"),
        ("ner", {"tokens": [["a"], ["b"]], "ner_tags": ["O", "O"]}, "a list of words belongs"),
        ("ner", {"tokens": "a b", "ner_tags": ["O", "O"]}, "a list of words belongs"),
        ("ner", WORDS | {"ner_tags": [0, 1]}, "tags must be strings, or classes with names"),
        ("ner", WORDS | {"ner_tags": "O O"}, "tags must be strings"),
        ("ner", WORDS | {"ner_tags": [["O"], ["O"]]}, "tags must be strings"),
        ("ner", WORDS | {"tagz": ["O", "O"]}, "no column ner_tags or tags among tokens, tagz"),
        ("pos", WORDS | {"upos": ["_", "_"]}, "no usable row for pos"),
        ("pos", WORDS | {"upos": [None, None]}, "tags must be strings"),
    ],
)
def test_columns_of_another_kind_are_one_line(tmp_path, task, row, message):
    row = row | {"label": 1} if task == "nli" else row
    with pytest.raises(ValueError, match=message) as caught:
        read(task, lines(tmp_path / "a.jsonl", [row]))
    assert "a.jsonl, train" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_null_rows_are_skipped_and_counted(tmp_path):
    full = WORDS | {"ner_tags": ["O", "O"]}
    rows = [full, full | {"tokens": None}, full | {"ner_tags": None}, {"tokens": ["a"]}, full]
    data = read("ner", lines(tmp_path / "a.jsonl", rows))
    assert (len(data.rows["train"]), data.empty_sentences) == (2, 6)
    pair = PAIR | {"label": 1}
    data = read("nli", lines(tmp_path / "b.jsonl", [pair, pair | {"premise": None}]))
    assert (len(data.rows["train"]), data.empty_sentences) == (1, 2)


def test_ranges_of_words_are_dropped_with_their_places_in_the_tree(tmp_path):
    row = {"tokens": ["du", "de", "le", "pain"], "upos": ["_", "ADP", "DET", "NOUN"]}
    tree = {"heads": [None, 3, 3, 0], "deprels": ["_", "case", "det", "root"]}
    data = read("pos", lines(tmp_path / "a.jsonl", [row | tree, row | {"upos": ["_"] * 4}]))
    (row,) = data.rows["train"]
    assert (row.words, row.tags) == ([["de", "le", "pain"]], ["ADP", "DET", "NOUN"])
    assert (list(row.trees[0].heads), row.trees[0].deprels) == ([3, 3, 0], ["case", "det", "root"])
    assert data.empty_sentences == 2


def test_classes_of_tags_have_names(tmp_path):
    names = List(ClassLabel(names=["O", "B-PER"]))
    features = Features({"tokens": TEXTS, "ner_tags": names})
    rows = [WORDS | {"ner_tags": [1, 0]}, WORDS | {"ner_tags": [0, -1]}]
    paths = [str(tmp_path / name) for name in ("good.parquet", "bad.parquet")]
    for rows_of, path in zip((rows[:1], rows), paths, strict=True):
        Dataset.from_list(rows_of, features=features).to_parquet(path)
    assert read("ner", paths[0]).rows["train"][0].tags == ["B-PER", "O"]
    with pytest.raises(ValueError, match=r"bad\.parquet, train row 2: tags must be strings"):
        read("ner", paths[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": [2, 1]}, "in a cycle, or below one"),
        ({"heads": [2, 9]}, "head 9, not one of 0 to 2"),
        ({"heads": [-2, 0]}, "head -2"),
        ({"heads": [0]}, "differ in length"),
        ({"heads": [0], "deprels": ["root"], "upos": ["VERB"]}, "differ in length"),
    ],
)
def test_a_tree_is_checked_where_the_language_needs_it(tmp_path, change, message):
    rows = [WORDS | TREE, {"tokens": [], "ner_tags": []} | TREE, WORDS | TREE | change]
    rows = [{"ner_tags": ["O", "O"]} | row for row in rows]
    _, row = read("ner", lines(tmp_path / "a.jsonl", rows)).rows["train"]
    assert TASKS["ner"].derive(row, SyntheticLanguage("inv"), 1)[0].words == [["wakes", "He"]]
    with pytest.raises(ValueError, match=rf"a\.jsonl, train row 3.*{message}"):
        TASKS["ner"].derive(row, SyntheticLanguage("syn-fr"), 1)


def test_trees_may_have_the_names_of_a_hub_dataset(tmp_path):
    tree = {"upos": TREE["upos"], "head": TREE["heads"], "deprel": TREE["deprels"]}
    rows = [WORDS | {"ner_tags": ["O", "O"]} | names for names in (TREE, tree)]
    read_rows = [read("ner", lines(tmp_path / "a.jsonl", [row])).rows["train"][0] for row in rows]
    assert read_rows[0] == read_rows[1]
    assert read_rows[0].trees[0].heads == [2, 0]


def test_a_dataset_without_a_validation_split_is_enough(tmp_path):
    rows = Dataset.from_list(pairs([0, 1]))
    for split in ("train", "test"):
        rows.to_parquet(tmp_path / "whole" / f"{split}.parquet")
    rows.to_parquet(tmp_path / "half" / "train.parquet")
    data = read_task(TASKS["nli"], str.split, dataset_name=str(tmp_path / "whole"))
    assert list(data.rows) == ["train", "test"]
    with pytest.raises(ValueError, match="has the splits train: a task needs train and test"):
        read_task(TASKS["nli"], str.split, dataset_name=str(tmp_path / "half"))
    (tmp_path / "whole" / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="whole cannot be read as rows"):
        read_task(TASKS["nli"], str.split, dataset_name=str(tmp_path / "whole"))
    with pytest.raises(ValueError, match="files or a --dataset_name, not both"):
        read_task(TASKS["nli"], str.split, dataset_name="x", files={"test": "y"})

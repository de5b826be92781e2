"""Tasks: reading, deriving, encoding and scoring."""

import gzip
import json
import math
import re
from collections import Counter
from pathlib import Path

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from hf_alignmlm import minienglish
from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.tasks import TASKS, Row, read_task
from hf_alignmlm.tasks.base import InputForm
from hf_alignmlm.tasks.ner import iob2
from hf_alignmlm.tasks.tagging import windows


@pytest.fixture(scope="module")
def encoder(doubled):
    return WordEncoder(*doubled)


def write(path: Path, text: str) -> str:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as stream:
        stream.write(text)
    return str(path)


def json_lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@st.composite
def entity_tags(draw):
    tags = []
    for kind, length in draw(st.lists(st.tuples(st.sampled_from("OPL"), st.integers(1, 3)))):
        name = {"P": "PER", "L": "LOC"}.get(kind)
        tags += [f"B-{name}", *[f"I-{name}"] * (length - 1)] if name else ["O"] * length
    return tags


@given(entity_tags(), st.randoms(use_true_random=False))
def test_reordered_tags_are_strict_and_keep_their_words(tags, random):
    order = list(range(len(tags)))
    random.shuffle(order)
    moved, broken = TASKS["ner"].reorder(tags, [order])
    assert [t[2:] for t in moved] == [tags[i][2:] for i in order]
    assert moved == iob2(moved)
    assert broken == sum(t.startswith("B-") for t in moved) - sum(t.startswith("B-") for t in tags)
    assert broken >= 0


@given(entity_tags())
def test_inversion_keeps_every_entity_whole(tags):
    language = SyntheticLanguage.from_name("trans_inv")
    words = [f"w{i}" for i in range(len(tags))]
    row, broken = TASKS["ner"].derive(Row([words], tags, [None]), language, 0)
    last = len(tags) - 1
    before = {(kind, last - stop, last - start) for kind, start, stop in get_entities(tags)}
    assert set(get_entities(row.tags)) == before
    assert broken == 0


def test_an_entity_that_ends_in_the_final_mark_is_split_and_counted():
    row = Row([["See", "Tom", "Jr", "."]], ["O", "B-PER", "I-PER", "I-PER"], [None])
    derived, broken = TASKS["ner"].derive(row, SyntheticLanguage.from_name("inv"), 0)
    assert derived.words == [["Jr", "Tom", "See", "."]]
    assert derived.tags == ["B-PER", "I-PER", "O", "B-PER"]
    assert broken == 1


@pytest.mark.parametrize("name", ["trans", "inv", "perm", "trans50_inv", "trans_syn-fr"])
def test_words_keep_their_tags(name):
    language = SyntheticLanguage.from_name(name)
    for index, s in enumerate(minienglish.sentences(50)):
        row = Row([list(s.words)], list(s.upos), [s])
        derived, _ = TASKS["pos"].derive(row, language, index)
        spelled = Counter(zip(map(language.spell, s.words), s.upos, strict=True))
        assert Counter(zip(derived.words[0], derived.tags, strict=True)) == spelled


def test_iob1_becomes_iob2():
    assert iob2(["I-PER", "I-PER", "B-PER", "O", "I-LOC", "I-PER"]) == [
        *("B-PER", "I-PER", "B-PER", "O", "B-LOC", "B-PER")
    ]


def test_every_format_gives_the_same_rows(tmp_path, encoder):
    tokens, tags = ["Tom", "sleeps", "."], ["B-PER", "O", "O"]
    columns = "-DOCSTART- O\n\n" + "".join(
        f"{w} X {t}\n" for w, t in zip(tokens, tags, strict=True)
    )
    rows = json_lines({"tokens": tokens, "ner_tags": tags})
    paths = [
        write(tmp_path / "a.txt", columns),
        write(tmp_path / "b.txt.gz", columns + "\n"),
        write(tmp_path / "c.jsonl", rows),
        write(tmp_path / "d.jsonl.gz", rows),
    ]
    for path in paths:
        data = read_task(TASKS["ner"], encoder.words, files={"train": path, "test": path})
        assert [(r.words, r.tags) for r in data.rows["train"]] == [([tokens], tags)]


@pytest.mark.parametrize(
    ("rows", "task", "message"),
    [
        ([{"tokens": ["a", "b"], "ner_tags": ["O"]}], "ner", "row 1: 2 words but 1 tags"),
        ([{"tokens": ["a"], "other": ["O"]}], "ner", "no column ner_tags or tags"),
        ([{"tokens": ["a"], "ner_tags": [3]}], "ner", "tags must be strings"),
        ([{"premise": "a", "hypothesis": "b", "label": 7}], "nli", "label 7"),
        ([{"premise": "a", "label": 1}], "nli", "no column hypothesis"),
        ([{"tokens": [], "ner_tags": []}], "ner", "no usable row"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, encoder, rows, task, message):
    path = write(tmp_path / "a.jsonl", json_lines(*rows))
    with pytest.raises(ValueError, match=message):
        read_task(TASKS[task], encoder.words, files={"train": path, "test": path})


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_damaged_file_is_named_in_one_line(tmp_path, encoder, name):
    path = write(tmp_path / name, json_lines({"tokens": ["a"], "ner_tags": ["O"]}) + '{"tokens": [')
    with pytest.raises(ValueError, match=f"{name} cannot be read as") as caught:
        read_task(TASKS["ner"], encoder.words, files={"train": path, "test": path})
    assert "\n" not in str(caught.value)


def test_empty_sentences_are_skipped_and_counted(tmp_path, encoder):
    full, empty = {"tokens": ["a"], "ner_tags": ["O"]}, {"tokens": [], "ner_tags": []}
    path = write(tmp_path / "a.jsonl", json_lines(full, empty, full))
    data = read_task(TASKS["ner"], encoder.words, files={"train": path, "test": path})
    assert len(data.rows["train"]) == 2
    assert data.empty_sentences == 2


@given(st.lists(st.integers(1, 20), min_size=1), st.integers(20, 40))
def test_windows_hold_every_word_once(lengths, room):
    runs = windows(lengths, room)
    assert [i for start, stop in runs for i in range(start, stop)] == list(range(len(lengths)))
    assert all(sum(lengths[start:stop]) <= room for start, stop in runs)
    if sum(lengths) <= room:
        assert len(runs) == 1


def test_each_word_has_one_label_at_its_first_piece(doubled, encoder):
    tokenizer, language = doubled
    label_ids = {"NOUN": 0, "VERB": 1}
    sentences = list(minienglish.sentences(40))
    rows = [Row([list(s.words)], list(s.upos), [s]) for s in sentences]
    rows += [TASKS["pos"].derive(row, language, i)[0] for i, row in enumerate(rows)]
    encoded = TASKS["pos"].encode(rows, InputForm(tokenizer, encoder, label_ids, 16))
    seen: list[list[int]] = [[] for _ in rows]
    ids: list[list[int]] = [[] for _ in rows]
    for number, feature in zip(encoded.row_of, encoded.features, strict=True):
        assert len(feature["input_ids"]) == len(feature["labels"]) <= 16
        seen[number] += [feature["labels"][i] for i in feature["word_starts"]]
        ids[number] += feature["input_ids"][1:-1]
    assert seen == [[label_ids.get(tag, -100) for tag in row.tags] for row in rows]
    text = [tokenizer(" ".join(r.words[0]), add_special_tokens=False).input_ids for r in rows]
    assert ids == text


def test_long_pairs_lose_words_that_are_counted(doubled, encoder):
    rows = [Row([["the"] * 30, ["a"] * 4], ["neutral"], [None, None])]
    encoded = TASKS["nli"].encode(rows, InputForm(doubled[0], encoder, {"neutral": 1}, 16))
    assert len(encoded.features[0]["input_ids"]) == 16
    assert encoded.truncated_words == 34 - 13


def test_language_types_replace_the_types_of_a_pairs_parts(doubled, encoder):
    rows = [Row([["a"], ["the"]], ["neutral"], [None, None])]
    form = InputForm(doubled[0], encoder, {"neutral": 1}, 16)
    for language_types, types in (
        ((), [0, 0, 0, 1, 1]),
        ((1, 1), [1] * 5),
        ((0, 2), [0, 0, 0, 2, 2]),
    ):
        encoded = TASKS["nli"].encode(rows, form, language_types=language_types)
        assert encoded.features[0]["token_type_ids"] == types
    form = InputForm(doubled[0], encoder, {"neutral": 1}, 16, token_types=False)
    assert "token_type_ids" not in TASKS["nli"].encode(rows, form).dataset.column_names


def test_conllu_is_read_for_parts_of_speech_and_refused_for_entities(tmp_path, encoder):
    line = "{}\t{}\t_\t{}\t_\t_\t{}\t{}\t_\t_\n"
    text = line.format(1, "Tom", "PROPN", 2, "nsubj") + line.format(2, "sleeps", "VERB", 0, "root")
    path = write(tmp_path / "a.conllu.gz", text + "\n")
    (row,) = read_task(
        TASKS["pos"], encoder.words, files=dict.fromkeys(("train", "test"), path)
    ).rows["test"]
    assert (row.words, row.tags) == ([["Tom", "sleeps"]], ["PROPN", "VERB"])
    assert list(row.trees[0].heads) == [2, 0]
    with pytest.raises(ValueError, match=r"a\.conllu\.gz, train row 1: no column ner_tags or tags"):
        read_task(TASKS["ner"], encoder.words, files={"train": path, "test": path})


def test_a_tasks_built_rows_are_its_features():
    for name, task in TASKS.items():
        assert task.name == name
        assert all((task.title, task.category, task.auto_class, task.columns_description))
        assert task.command in ("tag", "nli")
        raw = next(task.embedded("train"))
        row = task.read(raw, str.split, "here")
        twin, _ = task.derive(row, SyntheticLanguage("trans"), 0)
        assert list(task.built_row(row, twin)) == list(task.features)
        assert set(re.findall(r"`(\w+)`", task.columns_description)) == set(task.features)
        scores = task.score([row.tags, row.tags], [row.tags, row.tags])
        assert scores[task.metric] in (100.0, 0.0)


def test_metrics_on_a_case_by_hand():
    gold, guess = [["NOUN", "VERB", "NOUN"]], [["NOUN", "NOUN", "NOUN"]]
    scores = TASKS["pos"].score(guess, gold)
    assert scores["accuracy"] == pytest.approx(200 / 3)
    assert scores["macro_f1"] == pytest.approx((80 + 0) / 2)
    gold, guess = [["B-PER", "I-PER", "O"]], [["I-PER", "I-PER", "O"]]
    scores = TASKS["ner"].score(guess, gold)
    assert scores == {"seqeval_f1": 100.0, "seqeval_strict_f1": 0.0}
    gold, guess = [["a"], ["b"], ["a"]], [["a"], ["b"], ["b"]]
    scores = TASKS["nli"].score(guess, gold)
    assert scores["accuracy"] == scores["majority_baseline"] == pytest.approx(200 / 3)


def test_majority_baseline_takes_tags_from_training():
    train = [Row([["a", "b"]], ["X", "X"], []), Row([["c"]], ["Y"], [])]
    test = [Row([["a", "b", "c", "d"]], ["Y", "Y", "Y", "X"], [])]
    assert TASKS["pos"].baseline(train, test) == 25.0
    assert math.isclose(TASKS["nli"].baseline(train, test), 75.0)


def test_wikiann_entities_survive_inversion(data_folder, encoder):
    path = str(data_folder / "wikiann" / "train.jsonl.gz")
    rows = read_task(TASKS["ner"], encoder.words, files={"train": path, "test": path}).rows["train"]
    language = SyntheticLanguage.from_name("inv")
    split = 0
    for index, row in enumerate(rows):
        derived, broken = TASKS["ner"].derive(row, language, index)
        order = language.order(row.words[0], index=index)
        assert derived.tags == iob2(derived.tags)
        pairs = zip(row.words[0], [t[2:] for t in row.tags], strict=True)
        moved = zip(derived.words[0], [t[2:] for t in derived.tags], strict=True)
        assert Counter(pairs) == Counter(moved)
        split += broken
        if not broken:
            back = {
                (kind, min(span), max(span))
                for kind, start, stop in get_entities(derived.tags)
                for span in [[order[i] for i in range(start, stop + 1)]]
            }
            assert back == set(get_entities(row.tags))
    print(f"{len(rows)} sentences, {split} entities split by the final-mark rule")
    assert 0 < split <= 20


def test_each_language_is_a_configuration_whose_classes_become_names(tmp_path, encoder):
    label = datasets.ClassLabel(names=["entailment", "neutral", "contradiction"])
    text = datasets.Value("string")
    features = datasets.Features({"premise": text, "hypothesis": text, "label": label})
    rows = {"premise": ["Tom sleeps ."], "hypothesis": ["He wakes ."], "label": [2]}
    splits = ("train", "validation", "test")
    card = "---\nconfigs:\n"
    for config in ("en", "fr"):
        card += f"- config_name: {config}\n  data_files:\n"
        for split in splits:
            path = tmp_path / config / f"{split}.parquet"
            datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
            card += f"  - split: {split}\n    path: {config}/{split}.parquet\n"
    (tmp_path / "README.md").write_text(card + "---\n")
    for config, read in (("en", splits), ("fr", splits[1:])):
        options = {"dataset_name": str(tmp_path), "dataset_config_name": config}
        wanted = {split: split != "validation" for split in read}
        data = read_task(TASKS["nli"], encoder.words, splits=wanted, **options)
        assert tuple(data.rows) == read
        assert [row.tags for row in data.rows["test"]] == [["contradiction"]]

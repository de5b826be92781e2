"""Natural languages, read from texts of their own: names, balance, refusals."""

import json

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from test_run_pretraining import pretrain
from transformers import AutoTokenizer

from hf_alignmlm import minienglish
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.data.natural import balance, tokenize_text
from hf_alignmlm.data.packing import pack
from hf_alignmlm.languages.natural import NaturalLanguages, load_languages
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.pretraining import inputs, words


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """English, the same with its words spelled backwards (of other sentences), and a dictionary."""
    folder = tmp_path_factory.mktemp("natural")
    sentences = [s.words for s in minienglish.sentences(700, split="train")]
    parts = {"en": sentences[:400], "xx": sentences[400:600], "yy": sentences[600:]}
    for name, rows in parts.items():
        turn = {"en": 1, "xx": -1, "yy": -1}[name]
        end = {"en": "", "xx": "", "yy": "h"}[name]
        lines = [" ".join(word[::turn] + end * word.isalpha() for word in row) for row in rows]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = sorted({word for row in sentences for word in row if word.isalpha()})
    for name, end in (("xx", ""), ("yy", "h")):
        lines = [f"{word}\t{word[::-1]}{end}" for word in words]
        (folder / f"en-{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def named(folder, *names, to="{}.txt"):
    return [f"{name}={folder / to.format(name)}" for name in names]


def test_two_natural_languages(texts, tmp_path, capsys):
    results = pretrain(
        tmp_path / "run",
        train_file=named(texts, "en", "xx"),
        dictionary_file=named(texts, "en-xx"),
        dictionary_fraction=0.5,
    )
    assert results["language"] == "en-xx"
    assert results["languages"] == ["en", "xx"]
    assert results["eval_en_mlm_loss"] != results["eval_xx_mlm_loss"]
    assert results["alignment_p1_heldout"] is not None
    assert not [name for name in results if "original" in name or "derived" in name]
    assert load_languages(tmp_path / "run") == NaturalLanguages(("en", "xx"))
    assert len(BilingualDictionary.from_pretrained(tmp_path / "run")) > 100
    shares, seen = results["sampling_shares"], results["times_seen"]
    assert shares["en"] > shares["xx"] > 100 / 3
    assert seen["xx"] > seen["en"] > 0
    assert "Balance: en " in capsys.readouterr().out
    # The same command finds it finished.
    pretrain(
        tmp_path / "run",
        train_file=named(texts, "en", "xx"),
        dictionary_file=named(texts, "en-xx"),
        dictionary_fraction=0.5,
    )
    assert "finished" in capsys.readouterr().out


def test_one_language_alone(texts, tmp_path):
    results = pretrain(tmp_path / "run", objective="mlm", train_file=named(texts, "xx"))
    assert results["language"] == "xx"
    assert results["eval_xx_perplexity"] > 1


def test_streams_of_two_languages(texts, tmp_path):
    results = pretrain(
        tmp_path / "run",
        objective="mlm",
        streaming=True,
        shuffle_buffer=50,
        train_file=named(texts, "en", "xx"),
        validation_file=named(texts, "en", "xx"),
    )
    assert results["train_steps"] == 4
    assert results["eval_xx_perplexity"] > 1


def test_configurations_of_a_dataset(texts, tmp_path):
    for name in ("en", "xx"):
        (tmp_path / "data" / name).mkdir(parents=True)
        lines = (texts / f"{name}.txt").read_text().splitlines()
        Dataset.from_dict({"text": lines}).to_parquet(tmp_path / "data" / name / "train.parquet")
    configs = [
        {"config_name": f"2023.{name}", "data_files": f"{name}/*.parquet"} for name in ("en", "xx")
    ]
    (tmp_path / "data" / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    results = pretrain(
        tmp_path / "run",
        objective="mlm",
        dataset_name=tmp_path / "data",
        dataset_config_name=["xx=2023.xx", "en=2023.en"],
    )
    assert results["languages"] == ["xx", "en"]


REFUSED = {
    "some without a name": (
        {"train_file": ["en={t}/en.txt", "{t}/xx.txt"]},
        "give all as NAME=FILE",
    ),
    "no text": (
        {"train_file": ["en={t}/en.txt"], "validation_file": ["xx={t}/xx.txt"]},
        "xx has no text to train on",
    ),
    "a missing file": ({"train_file": ["en={t}/en.txt", "xx={t}/no.txt"]}, "no.txt: no such file"),
    "a synthetic language": ({"language": "trans_inv"}, "--language does nothing beside"),
    "a name that is taken": ({"train_file": ["derived={t}/xx.txt"]}, "derived is what synthetic"),
    "a pair as a name": ({"train_file": ["en-xx={t}/xx.txt"]}, "'en-xx' is no name of a language"),
    "another pair": ({"dictionary_file": ["en-zz={t}/en-xx.txt"]}, "en-zz is no pair of en, xx"),
    "two files of a pair": (
        {"dictionary_file": ["en-xx={t}/en-xx.txt", "en-xx={t}/en-yy.txt"]},
        "--dictionary_file has 2 values of one language or pair",
    ),
    "nothing to align": (
        {"objective": "align-mlm"},
        "en-xx has no pairs of words to align: give --dictionary_file, or take --objective mlm",
    ),
    "one text for both": (
        {"train_file": ["en={t}/en.txt", "xx={t}/en.txt"]},
        "en.txt is given for en and xx",
    ),
    "a dictionary of one language": (
        {"train_file": ["en={t}/en.txt"], "dictionary_file": ["{t}/en-xx.txt"]},
        "--dictionary_file is of two languages, but only en has text",
    ),
    "two datasets": (
        {"train_file": None, "dataset_name": ["en=a", "en=b"]},
        "--dataset_name has 2 values of one language or pair",
    ),
    "files and a dataset": ({"dataset_name": ["en=a"]}, "--train_file or --dataset_name"),
    "a balance of streams": (
        {"streaming": True, "sampling_alpha": 0.5},
        "--sampling_alpha does nothing beside --streaming",
    ),
    "a balance of a synthetic pair": (
        {"train_file": ["{t}/en.txt"], "sampling_alpha": 0.5},
        "--sampling_alpha is for natural languages",
    ),
    "alpha over 1": ({"sampling_alpha": 1.5}, "sampling_alpha must lie between 0 and 1"),
}


@pytest.mark.parametrize("swapped", [False, True])
def test_a_dictionary_whose_columns_are_swapped_is_told(texts, tmp_path, monkeypatch, swapped):
    said = []
    monkeypatch.setattr(words.logger, "warning", lambda text, *values: said.append(text % values))
    lines = [line.split("\t") for line in (texts / "en-xx.txt").read_text().splitlines()]
    path = tmp_path / "words.txt"
    path.write_text("\n".join("\t".join(line[:: -1 if swapped else 1]) for line in lines))
    pretrain(
        tmp_path / "run", train_file=named(texts, "en", "xx"), dictionary_file=[f"en-xx={path}"]
    )
    assert len(said) == 2 * swapped
    assert all("is the first column en, and" in line for line in said)


@pytest.mark.parametrize("mistake", REFUSED)
def test_mistakes_take_one_line(texts, tmp_path, capsys, mistake):
    changes, message = REFUSED[mistake]
    options = {"objective": "mlm", "train_file": ["en={t}/en.txt", "xx={t}/xx.txt"]} | changes

    def filled(value):
        return [one.format(t=texts) for one in value] if isinstance(value, list) else value

    with pytest.raises(SystemExit) as stop:
        pretrain(tmp_path / "run", **{name: filled(value) for name, value in options.items()})
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_language_that_is_seen_often_is_named(texts, tmp_path, monkeypatch):
    (tmp_path / "small.txt").write_text("nothing here .\n" * 4)
    files = [*named(texts, "en"), f"sw={tmp_path / 'small.txt'}"]
    warnings = []
    monkeypatch.setattr(inputs.logger, "warning", lambda *args: warnings.append(args))
    pretrain(tmp_path / "run", objective="mlm", train_file=files, max_steps=50, sampling_alpha=0)
    ((message, name, times),) = warnings
    assert message.startswith("%s would be seen %.0f times")
    assert name == "sw"
    assert times > inputs.OFTEN


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    alpha=st.floats(0, 1),
    seed=st.integers(0, 5),
)
def test_balance_is_xlms(sizes, alpha, seed):
    rows = {
        str(number): Dataset.from_dict({"row": [f"{number}/{i}" for i in range(size)]})
        for number, size in enumerate(sizes)
    }
    joined, times = balance(rows, alpha=alpha, seed=seed)
    found = [joined["row"].count(f"{n}/0") for n in range(len(sizes))]
    counts = np.array(
        [sum(row.startswith(f"{n}/") for row in joined["row"]) for n in range(len(sizes))]
    )
    assert set(joined["row"]) == {row for one in rows.values() for row in one["row"]}
    wanted = np.array(sizes) ** alpha
    assert np.allclose(counts, wanted * (counts / wanted).max(), atol=1)
    assert max(sizes) in counts
    assert all(abs(count - times[str(n)]) <= 1 for n, count in enumerate(found))
    assert balance(rows, alpha=alpha, seed=seed)[0]["row"] == joined["row"]


def test_sentences_are_those_of_the_language_and_every_reader(texts, tmp_path):
    pretrain(tmp_path / "run", objective="mlm", train_file=named(texts, "en"), max_steps=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
    table = Dataset.from_dict({"text": ["Tom sees a cat. Mary sleeps.", "", None, " [MASK] "]})
    rows = tokenize_text(table, tokenizer, "en")
    assert list(rows["index"]) == [0, 1, 3 * 4096]
    decoded = tokenizer.batch_decode(list(rows["ids"]))
    assert tokenizer.mask_token_id not in rows["ids"][2]
    assert decoded[:2] == ["Tom sees a cat.", "Mary sleeps."]
    words = Dataset.from_dict({"words": [["Tom", "sees", "a", "cat", "."]]})
    assert tokenize_text(words, tokenizer, "en")["ids"][0] == rows["ids"][0]
    stream = tokenize_text(table.to_iterable_dataset(), tokenizer, "en")
    assert [row["ids"] for row in stream] == list(rows["ids"])
    packed = pack(rows, tokenizer, max_seq_length=16, languages={"ids": 3})
    assert set(packed["language"]) == {3}
    with pytest.raises(ValueError, match="my text has no sentence"):
        tokenize_text(Dataset.from_dict({"text": ["", " "]}), tokenizer, "en", name="my text")


@pytest.mark.parametrize("names", [("en", "en"), (), ("en-fr",), ("original",), ("2",), (5,)])
def test_names_are_checked(names):
    with pytest.raises(ValueError, match=r"name|called"):
        NaturalLanguages(names)


def test_languages_beside_a_checkpoint(tmp_path):
    for languages in (NaturalLanguages(("en", "pt_br")), SyntheticLanguage("trans_inv", seed=3)):
        languages.save_pretrained(tmp_path)
        assert load_languages(tmp_path) == languages
    for damage in (
        {"languages": 5},
        {"languages": "a"},
        {"languages": ["a b"]},
        {"languages": [["en"]]},
        {},
    ):
        (tmp_path / "language.json").write_text(json.dumps(damage))
        with pytest.raises(ValueError, match=r"language\.json does not describe"):
            load_languages(tmp_path)

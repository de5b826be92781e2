"""Builders: rows, caches, folders that load anywhere, and pushes over HTTP."""

import json
import os
import pickle
import re
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as parquet
import pytest
from datasets import Dataset, load_dataset
from hub_server import HubServer, in_process
from huggingface_hub import DatasetCard

from hf_alignmlm import cli, minienglish
from hf_alignmlm.data.tokenizer import double_tokenizer, is_doubled, train_tokenizer
from hf_alignmlm.files import exclusive, read_json
from hf_alignmlm.hub import builders
from hf_alignmlm.hub.build import main
from hf_alignmlm.hub.builders import ParallelCorpus, ParallelNli
from hf_alignmlm.languages.synthetic import SyntheticLanguage

ROOT = Path(__file__).parent.parent.parent
LINES = [
    "The cat sat. It did not move! Why?",
    "",
    "Mr Smith went to Paris (in 1999).",
    "ᐁᐂ is taken.",
    "Ünïcode, naïve café — and “quotes”.",
]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES * 900))
    return path


def run(*arguments):
    main([*map(str, arguments)])


def rows_of(folder, config, split="train"):
    return load_dataset(str(folder), config, split=split).to_list()


def test_a_corpus_beside_its_twin_on_any_number_of_processes(text, tmp_path):
    options = ("--language", "trans_inv", "trans_perm", "--train_file", text)
    run(*options, "--validation_file", text, "--output_dir", tmp_path / "one")
    two = ("--output_dir", tmp_path / "two", "--preprocessing_num_workers", 2)
    run(*options, "--validation_file", text, *two)
    inverted = SyntheticLanguage("trans_inv")
    for name in ("trans_inv", "trans_perm"):
        rows = rows_of(tmp_path / "one", name)
        assert rows == rows_of(tmp_path / "two", name)
        streamed = load_dataset(str(tmp_path / "two"), name, split="train", streaming=True)
        assert list(streamed) == rows
        assert len(rows) == 900 * 5
        assert rows[0]["original"] == "The cat sat ."
        assert not any("ᐁ" in row["original"] for row in rows)
    rows = rows_of(tmp_path / "one", "trans_inv")
    for row in rows[:50]:
        assert row["derived"].split() == inverted.derive(row["original"].split())
    shuffled = [r["derived"] for r in rows_of(tmp_path / "one", "trans_perm")]
    assert len(set(shuffled[::5])) > 5


def test_a_sentence_s_permutation_is_that_of_pretraining(text, tmp_path, doubled):
    from hf_alignmlm.data.encoding import tokenize_corpus
    from hf_alignmlm.data.sources import read_corpus

    run("--language", "trans_perm", "--train_file", text, "--output_dir", tmp_path / "d")
    tokenizer, language = doubled
    language = SyntheticLanguage("trans_perm", alphabet=language.alphabet)
    ours = tokenize_corpus(read_corpus([str(text)]), tokenizer, language)
    orders = [row["order"] for row in ours]
    built = rows_of(tmp_path / "d", "trans_perm") + rows_of(
        tmp_path / "d", "trans_perm", "validation"
    )
    assert len(built) < len(orders) + 1
    spell = SyntheticLanguage("trans_perm").spell
    for order, row in zip(orders, built[:4000], strict=False):
        words = row["original"].split()
        assert [spell(words[i]) for i in order] == row["derived"].split()


def test_other_options_files_or_code_never_give_old_data(text, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "d"
    options = ("--train_file", text, "--validation_file", text, "--output_dir", folder)
    run(*options)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    run(*options)
    assert "holds this build already" in capsys.readouterr().out

    def refused(*more):
        with pytest.raises(SystemExit) as stopped:
            run(*options, *more)
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "--overwrite_output_dir" in error
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before

    refused("--language_seed", "1")
    with monkeypatch.context() as patched:
        patched.setattr(builders, "code_digest", lambda: "other code")
        refused()
    text.write_text("Another text.\n" * 3)
    refused()
    run(*options, "--overwrite_output_dir", "true")
    assert [row["original"] for row in rows_of(folder, "trans_inv")] == ["Another text ."] * 3
    with pytest.raises(SystemExit):
        run("--task_name", "pos", "--output_dir", folder)
    assert "holds corpus, not pos" in capsys.readouterr().err
    (folder / "README.md").write_text("mine")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    refused()


def test_a_folder_of_parquet_that_changed_never_gives_old_data(tmp_path, capsys):
    source, built = tmp_path / "source", tmp_path / "d"
    source.mkdir()

    def write(text):
        Dataset.from_dict({"text": [text] * 30}).to_parquet(str(source / "train.parquet"))

    write("Cats sit.")
    options = ("--language", "inv", "--dataset_name", source, "--output_dir", built)
    run(*options)
    run(*options)
    assert "holds this build already" in capsys.readouterr().out
    published = (built / "README.md").read_text() + (built / "inv" / "build.json").read_text()
    assert "source" in published
    assert str(tmp_path) not in published
    write("Dogs sit.")
    with pytest.raises(SystemExit):
        run(*options)
    run(*options, "--overwrite_output_dir", "true")
    assert rows_of(built, "inv")[0] == {"original": "Dogs sit .", "derived": "sit Dogs ."}


def test_the_cache_of_a_builder_knows_files_and_code(text, tmp_path, monkeypatch):
    def built():
        builder = ParallelCorpus(
            config_name="inv", train_file=[str(text)], cache_dir=str(tmp_path / "cache")
        )
        builder.download_and_prepare()
        return builder.cache_dir, builder.as_dataset(split="train")["derived"][0]

    first = built()
    assert built() == first
    text.write_text("Cats sit.\nDogs sit.\n" * 20)
    second = built()
    assert second[1] == "sit Cats ."
    monkeypatch.setattr(builders, "code_digest", lambda: "other code")
    assert built()[0] not in (first[0], second[0])


@pytest.mark.parametrize("task", ["pos", "ner", "nli"])
def test_a_task_has_its_columns_twice(task, tmp_path):
    run("--task_name", task, "--language", "trans_syn-fr", "--max_samples", 60, *out(tmp_path))
    language = SyntheticLanguage("trans_syn-fr")
    rows = rows_of(tmp_path / "d", "trans_syn-fr", "test")
    assert len(rows) == 60
    moved = 0
    for index, row in enumerate(rows):
        if task == "nli":
            pair = minienglish.pair(index, split="task-test")
            assert ("entailment", "neutral", "contradiction")[row["label"]] == pair.label
            for part in ("premise", "hypothesis"):
                tree = getattr(pair, part)
                assert row[part].split() == list(tree.words)
                derived = language.derive(tree.words, tree=tree, index=index)
                assert row[f"derived_{part}"].split() == derived
                moved += derived != [language.spell(w) for w in tree.words]
        else:
            tags = {"pos": "upos", "ner": "ner_tags"}[task]
            pairs = list(zip(row["tokens"], row[tags], strict=True))
            twins = zip(row["derived_tokens"], row[f"derived_{tags}"], strict=True)
            if task == "pos":
                assert Counter((language.spell(w), t) for w, t in pairs) == Counter(twins)
            else:
                assert Counter(t[2:] for _, t in pairs) == Counter(t[2:] for _, t in twins)
            moved += row["derived_tokens"] != [language.spell(w) for w, _ in pairs]
    assert moved > 20


def test_a_task_is_built_by_several_processes_as_by_one(tmp_path):
    for name, more in (("one", ()), ("two", ("--preprocessing_num_workers", 2))):
        folder = ("--output_dir", tmp_path / name)
        run("--task_name", "ner", "--language", "trans_perm", *folder, *more)
    rows = [rows_of(tmp_path / name, "trans_perm") for name in ("one", "two")]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 3000


def test_a_task_builder_works_by_itself(tmp_path):
    cache = {"cache_dir": str(tmp_path / "cache")}
    builder = ParallelNli(config_name="inv", max_samples=5, **cache)
    builder.download_and_prepare()
    row = builder.as_dataset(split="test")[0]
    pair = minienglish.pair(0, split="task-test")
    derived = SyntheticLanguage("inv").derive(pair.premise.words)
    assert row["premise"].split() == list(pair.premise.words)
    assert row["derived_premise"].split() == derived
    copy = pickle.loads(pickle.dumps(builder))
    assert copy.info.features == builder.info.features


def out(tmp_path):
    return ("--output_dir", tmp_path / "d")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--language", "trans_backwards"), "unknown language"),
        (("--task_name", "qa"), "unknown task_name"),
        (("--train_file", "nowhere.txt"), "no such file"),
        (("--train_file", "TEXT", "--language", "trans_syn-fr"), "alignmlm parse"),
        (("--task_name", "pos", "--train_file", "TEXT"), "needs a train file and a test file"),
        (("--model_name_or_path", "nowhere"), "nowhere has no language.json"),
        (("--language", "natural"), "unknown language 'natural'"),
        (("--language", "inv_trans", "trans_inv"), "names one twice"),
        (("--language", "trans", "--language", "inv"), "--language is given twice"),
        (("--max_samples", "0"), "max_samples must be at least 1"),
        (("--max_samples", "1.5"), "invalid int value"),
        (("--preprocessing_num_workers", "-1"), "must be at least 1"),
        (("--dataset_name", ""), "empty"),
        (("--dataset_name", "TEXT", "--train_file", "TEXT"), "not both"),
        (("--dataset_config_name", "en"), "needs a --dataset_name"),
        (("--test_file", "TEXT"), "a corpus has no test set"),
        (("--validation_file", "TEXT"), "need a --train_file"),
        (("--task_name", "pos", "--test_file", "TEXT"), "need a --train_file"),
        (("--license", "a\nb"), "--license"),
        (("--train_file", "TAKEN", "--validation_file", "TEXT"), "train set has no row"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(arguments, said, text, tmp_path, capsys):
    (tmp_path / "taken.txt").write_text("ᐁᐂ is taken.\n")
    files = {"TEXT": text, "TAKEN": tmp_path / "taken.txt"}
    with pytest.raises(SystemExit) as stopped:
        run(*(files.get(a, a) for a in arguments), *out(tmp_path))
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1]
    assert error.count("error:") == 1
    assert not [p for p in (tmp_path / "d").rglob("*") if p.is_file()]


def test_a_row_that_fails_late_is_one_line_from_any_process(tmp_path, capsys):
    """The second of two sentences thousands of rows on has no tree."""
    tree = {"upos": ["NOUN", "VERB"], "heads": [2, 0], "deprels": ["nsubj", "root"]}
    rows = [{"tokens": ["Cats", "sit"], **tree}] * 3000
    rows[2500] = rows[2500] | {"heads": None}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--train_file", tmp_path / "rows.jsonl", "--language", "syn-fr", *out(tmp_path))
    for more in ((), ("--preprocessing_num_workers", 2)):
        with pytest.raises(SystemExit) as stopped:
            run(*options, *more)
        assert stopped.value.code == 2
        assert "alignmlm parse" in capsys.readouterr().err.splitlines()[-1]
        assert not list((tmp_path / "d").rglob("*"))


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# What changes files, as Python's audit hooks name it.
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}


def killed(number, folder, options):
    """Build in a process of its own, killed at its n-th change; whether it came so far."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(event, arguments):
            nonlocal seen
            if event in CHANGES or (event == "open" and str(folder) in str(arguments[0])):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            run(*options, "--output_dir", folder)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def kill_and_repeat(points, tmp_path):
    """Killed at these points, then by the same command, then by another: rows are the command's."""
    files = [tmp_path / "first.txt", tmp_path / "second.txt"]
    for file, line in zip(files, ("Cats sit.", "Dogs ran."), strict=True):
        file.write_text(f"{line}\n" * 40)
    both = ("--language", "trans", "inv")
    first, second = [(*both, "--train_file", f, "--overwrite_output_dir", "True") for f in files]
    run(*first, "--output_dir", tmp_path / "twins")
    (tmp_path / "twins/inv/notes.txt").write_text("mine")
    (tmp_path / "twins/inv/own").mkdir()
    (tmp_path / "twins/inv/own/corpus-train.parquet").write_text("mine")
    before = shutil.copytree(tmp_path / "twins", tmp_path / "before")
    run(*second, "--output_dir", tmp_path / "twins")
    after = tree(tmp_path / "twins")
    assert rows_of(tmp_path / "twins", "inv")[0]["derived"] == "ran Dogs ."
    assert after[Path("inv/notes.txt")] == b"mine"
    assert Path("inv/own/corpus-train.parquet") in after
    run(*second, "--output_dir", tmp_path / "fresh" / "twins")
    fresh = tree(tmp_path / "fresh" / "twins")
    for number in points:
        again, new, other = [tmp_path / str(number) / name / "twins" for name in "abc"]
        shutil.copytree(before, again)
        reached = [killed(number, again, second), killed(number, new, second[:-2])]
        killed(number, other, first)
        run(*second, "--output_dir", again)
        assert tree(again) == after
        run(*second[:-2], "--output_dir", new)
        assert tree(new) == fresh
        run(*second, "--output_dir", other)
        assert tree(other) == fresh
        assert not list((tmp_path / str(number)).glob("*/.*.lock"))
        if not any(reached):
            return number
    return 0


def test_a_killed_build_is_repeated_whole(tmp_path):
    assert kill_and_repeat((12, 25, 40), tmp_path) == 0


@pytest.mark.slow
def test_a_build_killed_at_any_point_is_repeated_whole(tmp_path):
    assert kill_and_repeat(range(1, 1000), tmp_path) > 40


def test_two_builds_at_once_are_one(text, tmp_path, capsys):
    with exclusive(tmp_path / "d"), pytest.raises(SystemExit):
        run("--train_file", text, *out(tmp_path))
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "in use" in error
    assert not list(tmp_path.glob("d*"))


def test_files_that_stat_alike_are_told_apart(tmp_path, capsys):
    for name, line in (("a", "Cats sit."), ("b", "Dogs ran.")):
        file = tmp_path / name / "text.txt"
        file.parent.mkdir()
        file.write_text(f"{line}\n" * 30)
        os.utime(file, (1e9, 1e9))
    run("--train_file", tmp_path / "a/text.txt", *out(tmp_path))
    for more in ((), ("--license", "cc0-1.0")):
        with pytest.raises(SystemExit):
            run(
                "--train_file",
                tmp_path / ("a/text.txt" if more else "b/text.txt"),
                *more,
                *out(tmp_path),
            )
        assert "other options, files or code" in capsys.readouterr().err


def test_the_hub_s_revision_is_part_of_the_record(monkeypatch):
    revisions = iter("ab")
    monkeypatch.setattr(
        builders.datasets, "load_dataset_builder", lambda *_: SimpleNamespace(hash=next(revisions))
    )
    records = []
    for _ in "ab":
        builders._revision.cache_clear()
        records.append(builders.SourceConfig("inv", source_name="me/data").record())
    assert [record["revision"] for record in records] == ["a", "b"]


CARD = r"""---
language: en
license: cc0-1\.0
task_categories:
- fill-mask
- translation
pretty_name: me/twins
tags:
- hf_alignmlm
- multilingual
- synthetic
- arxiv:2211\.08547
configs:
- config_name: trans
  data_files:
  - split: train
    path: trans/corpus-train\*\.parquet
  - split: validation
    path: trans/corpus-validation\*\.parquet
- config_name: trans_inv
  data_files:
  - split: train
    path: trans_inv/corpus-train\*\.parquet
  - split: validation
    path: trans_inv/corpus-validation\*\.parquet
---

# me/twins

English beside synthetic twins of it, .*
twin is a configuration: a row a sentence, .*

## Use

```python
from datasets import load_dataset

dataset = load_dataset\("me/twins", "trans"\)
```

## Configurations

\| configuration \| split \| rows \|
\| --- \| ---: \| ---: \|
(\| `trans(_inv)?` \| (train|validation) \| [\d,]+ \|\n){4}
`trans` is English with all words in a script of their own \(seed 0\)\.

- original: The cat sat \.
- derived: [^A-Za-z]+

`trans_inv` is English with .* reversed \(seed 0\)\.

- original: The cat sat \.
- derived: [^A-Za-z]+

## Source

Made by hf_alignmlm \d+\.\d+\.\d+ from `text\.txt`\.
Options and digests .*

## Limits

(.+\n)+
## Licence

.*: cc0-1\.0\.

## Citation

```bibtex
(.+\n)+```
"""


PUSH = "import sys; from hf_alignmlm.cli import main; main(sys.argv[1:])"
LOAD = """
import sys, json
sys.modules["hf_alignmlm"] = None
from datasets import Dataset, load_dataset
rows = load_dataset("me/twins", "trans_inv", split="train").to_list()
stream = load_dataset("me/twins", "trans_inv", split="train", streaming=True)
assert list(stream) == rows
print(json.dumps([len(rows), load_dataset("me/twins", "trans", split="train")[0]]))
"""


def test_a_push_of_two_languages_interrupted_repeated_and_loaded(text, tmp_path):
    folder = tmp_path / "d"
    options = ("--train_file", text, "--validation_file", text, "--license", "cc0-1.0")
    run("--language", "trans", "trans_inv", *options, *out(tmp_path))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert "is not on the Hub yet" in (folder / "README.md").read_text()
    cli.run("card", [str(folder), "--output", str(tmp_path / "card.md")])
    assert (tmp_path / "card.md").read_text() == (folder / "README.md").read_text()
    with HubServer() as hub:
        env = hub.env(tmp_path / "home") | {"PYTHONPATH": str(ROOT)}
        push = ("push", str(folder), "--repo_id", "me/twins")
        listed = in_process(PUSH, env, *push, "--dry_run")
        assert "7 files would go to dataset me/twins" in listed.stdout
        assert not [r for r in hub.requests if r.method == "POST"]

        hub.fail_next("PUT", "/lfs/", status=403)
        failed = in_process(PUSH, env, *push)
        assert failed.returncode == 2
        assert "repeat it" in failed.stderr.strip().splitlines()[-1]
        assert not any("parquet" in name for name in hub.files("me/twins", "dataset"))
        done = in_process(PUSH, env, *push)
        assert done.returncode == 0, done.stderr
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before

        files = hub.files("me/twins", "dataset")
        card = files["README.md"].decode()
        assert re.fullmatch(CARD.strip(), card.strip()), card
        assert [c["config_name"] for c in DatasetCard(card).data.configs] == ["trans", "trans_inv"]
        everything = [failed.stderr, done.stdout, done.stderr, *map(str, files.values())]
        assert not any(env["HF_TOKEN"] in text for text in everything)
        assert str(tmp_path) not in files["trans/build.json"].decode()
        loaded = in_process(LOAD, env)
        assert loaded.returncode == 0, loaded.stderr
        count, row = json.loads(loaded.stdout)
        assert (count, row["original"]) == (4500, "The cat sat .")
        assert hub.unimplemented == []


def test_derived_text_has_the_released_tokenizer_s_ids(data_folder, tmp_path):
    """Text → parquet → `load_dataset` → the tokenizer of a checkpoint: ids + V, on real text."""
    from itertools import islice

    from transformers import AutoTokenizer

    from hf_alignmlm.files import open_file

    with open_file(data_folder / "books" / "validation.txt.gz") as stream:
        lines = list(islice(stream, 3000))
    (tmp_path / "books.txt").write_text("".join(lines))
    tokenizer, language = double_tokenizer(train_tokenizer(lines, 5000), SyntheticLanguage("trans"))
    tokenizer.save_pretrained(tmp_path / "run")
    language.save_pretrained(tmp_path / "run")
    for name in ("trans", "trans_inv"):
        files = ("--train_file", tmp_path / "books.txt", "--model_name_or_path", tmp_path / "run")
        run("--language", name, *files, *out(tmp_path))
    released = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert is_doubled(released)
    half, special = len(released) // 2, set(released.all_special_ids)
    rows = rows_of(tmp_path / "d", "trans")
    assert len(rows) > 2000
    for row in rows:
        original, derived = (
            released(row[c], add_special_tokens=False).input_ids for c in ("original", "derived")
        )
        assert [i if i in special else i + half for i in original] == derived
    for row in rows_of(tmp_path / "d", "trans_inv"):
        original, derived = (
            released(row[c], add_special_tokens=False).input_ids for c in ("original", "derived")
        )
        assert Counter(i if i in special else i + half for i in original) == Counter(derived)


def test_shards_are_parquet_and_the_record_has_no_folder_of_the_user(text, tmp_path):
    run("--train_file", text, *out(tmp_path))
    (shard,) = (tmp_path / "d" / "trans_inv").glob("corpus-train*.parquet")
    assert parquet.read_schema(shard).names == ["original", "derived"]
    assert read_json(tmp_path / "d" / "trans_inv" / "build.json")["options"]["train_file"] == [
        "text.txt"
    ]

"""Cards, and pushes to a Hub over real HTTP."""

import json
import re
import shutil
import socket
from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer, in_process
from huggingface_hub import DatasetCard, ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

import run_pretraining
from hf_alignmlm.files import read_json, write_json
from hf_alignmlm.hub import cards, push
from hf_alignmlm.languages.natural import NaturalLanguages
from hf_alignmlm.objectives import OBJECTIVES

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a few steps."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    shape = "hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=64"
    options = {
        "output_dir": folder,
        "config_overrides": shape,
        "vocab_size": 400,
        "max_seq_length": 32,
        "max_steps": 2,
        "max_train_samples": 200,
        "max_eval_samples": 50,
        "dictionary_fraction": 0.5,
        "eval_strategy": "no",
        "disable_tqdm": "true",
    }
    run_pretraining.main(
        ["--use_cpu", *(str(x) for k, v in options.items() for x in (f"--{k}", v))]
    )
    return folder


@pytest.fixture(scope="module")
def transfer(run):
    folder = run.parent / "tiny-pos"
    scores = {"source": 90.0, "bz": 60.0, "bs": 88.0, "transfer_gap": -28.0}
    scores |= {"bz_by_seed": [60.0]}
    task = {"task": "pos", "metric": "accuracy", "language": "trans_inv", "seeds": [0], **scores}
    arguments = {"model_name_or_path": str(run), "train_file": "/home/me/tags.conllu"}
    write_json(folder / "all_results.json", task | {"arguments": arguments})
    return folder


MEASURED = ("mlm_loss", "perplexity")
NUMBER = r"-?[\d,]+(\.\d+)?"
CARD = r"""---
language: en
library_name: transformers
license: apache-2.0
pipeline_tag: fill-mask
tags:
- hf_alignmlm
- multilingual
- align-mlm
- arxiv:2211\.08547
model-index:
- name: me/tiny
  results:
(  .*\n)+---

# me/tiny

A bilingual BERT of NUM M parameters, pre-trained by masked language .* \(ALIGN-MLM\)
on English and on `trans_inv`, .*
transfer\.

## Use

```python
from transformers import AutoModelForMaskedLM, AutoTokenizer

tokenizer = AutoTokenizer\.from_pretrained\("me/tiny"\)
model = AutoModelForMaskedLM\.from_pretrained\("me/tiny"\)
```

It is plain BERT: .*
.*

## The derived language

`trans_inv` is English with all words in a script of their own; .* \(seed 0\)\.

- original: [A-Za-z ,]+ [.!?]
- derived: [^A-Za-z]+

## Training

Trained on the embedded corpus, .*: NUM tokens in 2 steps, seed 42; sequences of 32 tokens,
NUM % padding; alignment weight 10\.0, dictionary fraction 0\.5\. .*
.*

## Evaluation

On validation text; precisions in percent\.

\| measure \| value \|
\| --- \| ---: \|
(\| [^|]+ \| NUM \|\n){10}
## Transfer

\| task \| metric \| source \| zero-shot BZ \| supervised BS \| gap \| seeds \|
\| --- (\| ---: ){6}\|
\| POS \| accuracy \| 90\.0 \| 60\.0 \| 88\.0 \| -28\.0 \| 1 \|

## Limits

(.+\n)+
## Citation

```bibtex
(.+\n)+```
"""


def test_a_whole_card(run, transfer):
    card = str(cards.model_card(run, repo_id="me/tiny", transfer=transfer))
    pattern = CARD.replace("NUM", NUMBER)
    assert re.fullmatch(pattern.strip(), card.strip()), card
    results = ModelCard(card).data.eval_results
    assert {r.dataset_type for r in results} == {"tags.conllu"}
    assert [(r.metric_name, r.metric_value) for r in results] == [
        ("accuracy, original language", 90.0),
        ("accuracy, zero-shot", 60.0),
        ("accuracy, supervised", 88.0),
    ]


def test_a_card_that_is_not_released_says_so(run, tmp_path):
    path = tmp_path / "card.md"
    cards.card_main([str(run), "--output", str(path)])
    assert "is not on the Hub yet" in path.read_text()


def test_what_is_no_run_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cards.card_main([str(tmp_path)])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "neither a finished run" in error


def changed(run, folder, config=(), **results):
    """The same run with other entries in its results, and in its configuration."""
    shutil.copytree(run, folder)
    for name, entries in {"all_results.json": results, "config.json": dict(config)}.items():
        write_json(folder / name, read_json(folder / name) | entries)
    return folder


def cited(folder):
    return re.findall(r"@\w+{(\w+),", str(cards.model_card(folder)))


def test_a_card_cites_what_made_the_run(run, tmp_path):
    def key(objective):
        return re.search(r"@\w+{(\w+),", OBJECTIVES[objective].citation)[1]

    ours = key("align-mlm")
    assert cited(run) == [ours]
    for objective in ("mlm", "xlm", "dict-mlm"):
        other = {"objective": objective, "config": {"alignment_loss_weight": 0.0}}
        assert cited(changed(run, tmp_path / objective, **other)) == [key(objective), ours]


def test_an_alignment_loss_is_cited_where_it_has_a_weight(run, tmp_path, monkeypatch):
    class Contrastive:
        citation = "@article{oord2018, title = {CPC}}"

    monkeypatch.setitem(cards.ALIGNMENT_LOSSES, "contrastive", Contrastive)
    for weight, keys in ((1.0, ["oord2018"]), (0.0, [])):
        config = {"alignment_loss_weight": weight, "alignment_loss_type": "contrastive"}
        folder = changed(run, tmp_path / str(weight), config)
        assert cited(folder)[1:] == keys


def test_the_length_is_that_of_the_training_not_of_the_positions(run, tmp_path):
    longer = {"max_position_embeddings": 512}
    plain = changed(run, tmp_path / "arguments", longer, max_seq_length=None)
    assert "sequences of 32 tokens" in str(cards.model_card(plain))
    told = changed(run, tmp_path / "results", longer, max_seq_length=48)
    assert "sequences of 48 tokens" in str(cards.model_card(told))
    neither = {"arguments": {"dictionary_fraction": 1.0}, "max_seq_length": None}
    defaults = changed(run, tmp_path / "neither", longer, **neither)
    assert "sequences of 512 tokens" in str(cards.model_card(defaults))


def test_token_types_are_explained_where_they_tell_languages_apart(run, tmp_path):
    types = "Token types tell the languages apart: give\n`token_type_ids` of 0 to original text"
    assert types not in cards.model_card(run).text
    folder = changed(run, tmp_path / "xlm", {"language_embeddings": True})
    assert f"no other library. {types} and of 1 to derived text.\n\n`dictionary.json`" in str(
        cards.model_card(folder)
    )


def test_what_no_registry_knows_is_named(run, transfer, tmp_path):
    folder = changed(run, tmp_path / "run", objective="my-mlm")
    assert "pre-trained by my-mlm\n" in str(cards.model_card(folder))
    scores = read_json(transfer / "all_results.json") | {"task": "chunks", "n_train": 9}
    card = cards.model_card(changed(run, tmp_path / "task", **scores))
    assert "| chunks | accuracy | 90.0 |" in card.text
    assert card.data.pipeline_tag is None
    assert "AutoModel.from_pretrained" in card.text


def test_natural_languages_are_no_twins(run, tmp_path):
    arguments = {"train_file": ["en=/home/me/a.txt", "sw=/home/me/b.txt"], "dictionary_fraction": 1}
    losses = {f"eval_{name}_{measure}": 2.0 for name in ("en", "sw") for measure in MEASURED}
    folder = changed(run, tmp_path / "run", arguments=arguments, **losses)
    NaturalLanguages(("en", "sw")).save_pretrained(folder)
    card = cards.model_card(folder)
    assert card.data.language == ["en", "sw"]
    assert "on `en`, `sw`." in card.text
    assert "Trained on `a.txt` (en), `b.txt` (sw): " in card.text
    assert "| masked-LM loss, sw | 2.000 |" in card.text
    assert not re.search("twin|synthetic|derived|original|/home", card.text)


def test_a_run_without_a_dictionary_claims_no_pairs(run, tmp_path):
    arguments = {"model_name_or_path": "/home/me/english", "dictionary_fraction": 1}
    folder = changed(run, tmp_path / "run", arguments=arguments, alignment_p1=None)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "xlm-roberta"}))
    text = cards.model_card(folder).text
    assert "plain xlm-roberta: no remote code" in text
    assert "Went on from `english`, trained on" in text
    assert not re.search(r"dictionary|alignment P@1|cosine", text)


def test_a_metric_keeps_its_language_in_the_written_card(tmp_path):
    scores = {"bz_by_seed": [40.0], "bs": None, "transfer_gap": None}
    languages = {"fr": {"bz": 40.0} | scores, "hi": {"bz": 30.0} | scores}
    result = {"task": "pos", "metric": "accuracy", "language": "en-fr-hi", "source": 70.0}
    result |= {"languages": ["en", "fr", "hi"], "transfer": languages, "seeds": [0]}
    result |= {"n_train": 5, "arguments": {}, "objective": "mlm"}
    write_json(tmp_path / "all_results.json", result)
    write_json(tmp_path / "config.json", {"model_type": "bert"})
    NaturalLanguages(("en", "fr", "hi")).save_pretrained(tmp_path)
    written = ModelCard(str(cards.model_card(tmp_path))).data.eval_results
    assert [(one.dataset_name, one.metric_value) for one in written] == [
        *(("POS, en-fr", 70.0), ("POS, en-fr", 40.0), ("POS, en-hi", 30.0))
    ]


def test_folders_of_named_files_stay_untold(tmp_path):
    path = tmp_path / "a.txt"
    assert cards.without_folders([f"en={path}", "fr=no/b.txt", "en=20231101.en"]) == [
        *("en=a.txt", "fr=no/b.txt", "en=20231101.en")
    ]


HOSTILE = "a|b`c``d\n# e <b>[x](http://y)*.txt"


def test_names_of_files_and_folders_are_text(run, tmp_path):
    """A name breaks no table and makes no heading, link or element."""
    arguments = {"train_file": [f"/home/me/{HOSTILE.replace('/', ':')}"], "dictionary_fraction": 1}
    folder = changed(run, tmp_path / HOSTILE.replace("/", ":"), arguments=arguments)
    text = cards.model_card(folder).text
    safe = re.escape(r"a\|b\`c\`\`d # e \<b\>\[x\](http:::y)\*.txt")
    assert re.search(f"^# {safe}$", text, re.MULTILINE)
    assert "Trained on ``` a|b`c``d # e <b>[x](http:::y)*.txt ```: " in text
    assert not re.search(r"^# e", text, re.MULTILINE)
    assert 'from_pretrained("a|b`c``d\\n# e <b>[x](http:::y)*.txt")' in text
    row = {"original": "# `a` | <b>", "derived": ["[x](y)"]}
    build = {
        "kind": "corpus",
        "language": {"name": "inv"},
        "example": row,
        "splits": {"train": 3},
        "options": {"source_name": "a`b"},
        "license": "*mine*",
        "versions": {"hf-alignmlm": "0.1.0"},
    }
    text = cards.dataset_card({"in|v": build}, "me/data").text
    assert "\n| `in\\|v` | train | 3 |\n" in text
    assert "\n- original: # \\`a\\` \\| \\<b\\>\n- derived: \\[x\\](y)\n" in text
    assert "from `` a`b `` (default)." in text
    assert "gives it: \\*mine\\*." in text


NAMES = st.text("|`~*_#-:'\"{}%<>[]()&!@$\\/ \n\r\t\0\x1b\x85\u2028\ud800aé0", min_size=1)
HOSTILE_NAMES = (
    "no",
    "null",
    "1.0",
    "---",
    "a\n---\nb: c",
    "{{ x }}",
    "{% raw %}",
    "&lt;",
    "- x",
    "*",
)


def check_card(card, benign):
    """As many headings, tables and blocks as with harmless names, and tables of equal columns."""
    card.encode()
    text = ModelCard(card).text

    shape = re.compile(r"^(?:#+ |```|---)", re.MULTILINE)
    assert shape.findall(text) == shape.findall(benign)
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == len(re.findall(r"(?:^\|.*\n)+", benign, re.MULTILINE))
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert not re.search(r"(?<!\\)<[a-zA-Z/!]", re.sub(r"`+.+?`+|\(\".*\"\)", "", text))


@pytest.fixture(scope="module")
def task_run(run, transfer):
    """A task run whose results a test may rewrite; and the results."""
    folder = run.parent / "rewritten"
    results = read_json(transfer / "all_results.json") | {"n_train": 9}
    return changed(run, folder, **results), read_json(folder / "all_results.json")


@settings(max_examples=60)
@given(name=st.one_of(st.sampled_from(HOSTILE_NAMES), NAMES))
def test_no_name_breaks_a_card(task_run, name):
    folder, results = task_run
    given = "".join(
        " " if ord(c) in (*range(32), *range(127, 160), 8232, 0xD800) else c for c in name
    )
    arguments = {"train_file": [f"/home/{name}"], "model_name_or_path": name}
    (folder / "all_results.json").write_text(json.dumps(results))
    benign = cards.model_card(folder, repo_id="me/x")
    (folder / "all_results.json").write_text(json.dumps(results | {"arguments": arguments}))
    if name.isprintable():
        card = cards.model_card(folder, repo_id=name)
        check_card(str(card), benign.text)
        assert ModelCard(str(card)).data.model_name == name
    else:
        with pytest.raises(ValueError, match="damaged: its model_name_or_path"):
            cards.model_card(folder)
    build = {
        **{"kind": "corpus", "language": {"name": "inv"}, "splits": {"train": 3}, "license": given},
        **{
            "options": {"train_file": [name], "source_name": name},
            "versions": {"hf-alignmlm": "1"},
        },
        "example": {"original": name, "derived": [name, name]},
    }
    harmless = {**build, "options": {}, "example": {"original": "a", "derived": ["b"]}}
    card = cards.dataset_card({"inv": build}, name)
    check_card(str(card), cards.dataset_card({"inv": harmless | {"license": "mit"}}, "x").text)
    data = DatasetCard(str(card)).data
    assert (data.pretty_name, data.license) == (given, given)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("all_results.json", b'{"train_steps": 2,'),
        ("all_results.json", b"[]"),
        ("all_results.json", b'{"accuracy": 1.0}'),
        ("all_results.json", b'{"train_steps": 2, "language": "inv"}'),
        ("all_results.json", b'{"train_steps": 2, "language": 7}'),
        ("config.json", b"\xff"),
        ("config.json", b"[1]"),
        ("config.json", b'{"alignment_loss_weight": 1, "alignment_loss_type": ["x"]}'),
        ("config.json", None),
        ("language.json", b"{"),
        ("language.json", b'["inv"]'),
        ("language.json", b'{"name": "backwards"}'),
        ("language.json", None),
    ],
)
def test_a_damaged_file_of_a_run_is_one_line(run, tmp_path, capsys, file, content):
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(SystemExit) as stopped:
        cards.card_main([str(folder)])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert file in error
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("record", [[], {}, {"kind": "corpus", "splits": 3}, {"kind": "corpus"}])
def test_a_damaged_record_of_a_build_is_one_line(tmp_path, capsys, record):
    write_json(tmp_path / "d" / "inv" / "build.json", record)
    with pytest.raises(SystemExit):
        cards.card_main([str(tmp_path / "d")])
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "build.json" in error
    assert not (tmp_path / "d" / "README.md").exists()


def test_transfer_results_of_other_runs_are_refused(run, transfer, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "other")
    dataset = tmp_path / "dataset"
    write_json(dataset / "inv" / "build.json", {"kind": "corpus"})
    said = {other: "no task run that started from", transfer: "config.json", dataset: "--transfer"}
    for folder, words in said.items():
        with pytest.raises(SystemExit):
            cards.card_main([str(folder), "--transfer", str(transfer)])
        assert words in capsys.readouterr().err


@pytest.fixture
def hub(monkeypatch):
    """The test Hub, for the client of this process."""
    with HubServer() as server:
        constants = "huggingface_hub.constants."
        monkeypatch.setattr(f"{constants}ENDPOINT", server.url)
        monkeypatch.setattr(f"{constants}HF_HUB_OFFLINE", False)
        monkeypatch.setattr(f"{constants}HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def refused(capsys, *arguments):
    """The one line of a push that fails."""
    with pytest.raises(SystemExit) as stopped:
        push.push_main([*map(str, arguments)])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert TOKEN not in error
    return error


def test_a_push_that_fails_in_any_way_is_one_line(run, hub, capsys, monkeypatch):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    for path in ("/repos/create", "/commit/"):
        for status in (None, 401, 403, 409, 500, 503):
            hub.fail_next("POST", path, status=status)
            if (path, status) != ("/repos/create", 409):  # it says that the repository is there
                assert "repeat it" in refused(capsys, run, "--repo_id", "me/failing")
    for repo_id in ("", "a/b/c", "me/..", "me/x y", "me/tiny.git"):
        assert "epo" in refused(capsys, run, "--repo_id", repo_id, "--dry_run")
    monkeypatch.setenv("HF_TOKEN", "hf_with a_space")
    assert "hf_with" not in refused(capsys, run, "--repo_id", "me/failing")
    monkeypatch.setattr(push, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
        assert "repeat it" in refused(capsys, run, "--repo_id", "me/silent")
    assert "repeat it" in refused(capsys, run, "--repo_id", "me/gone")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "no address")
    assert "repeat it" in refused(capsys, run, "--repo_id", "me/nowhere")
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    assert "model.safetensors" not in hub.files("me/failing")


def test_weights_in_shards_are_released_too(run, hub, tmp_path, capsys):
    from hf_alignmlm import BertForAlignedMaskedLM

    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "model.safetensors").unlink()
    assert "no weights" in refused(capsys, folder, "--repo_id", "me/shards")
    model = BertForAlignedMaskedLM.from_pretrained(run)
    model.save_pretrained(folder, max_shard_size="60KB")
    push.push_main([str(folder), "--repo_id", "me/shards"])
    shards = {path.name for path in folder.glob("model*")}
    assert len(shards) > 2
    assert shards < hub.files("me/shards").keys()


PUSH = "import sys; from hf_alignmlm.hub.push import push_main; push_main(sys.argv[1:])"
LOAD = """
import sys, json
sys.modules["hf_alignmlm"] = None
from transformers import AutoModel, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("me/tiny")
model = AutoModel.from_pretrained("me/tiny").eval()
model(**tokenizer("the old", return_tensors="pt"))
print(json.dumps([len(tokenizer)]))
"""


def test_a_push_fails_whole_is_repeated_and_loads_without_this_package(run, tmp_path):
    with HubServer() as hub:
        env = hub.env(tmp_path / "home") | {"PYTHONPATH": str(ROOT)}
        listed = in_process(PUSH, env, str(run), "--repo_id", "me/tiny", "--dry_run")
        assert "model.safetensors" in listed.stdout
        assert not [r for r in hub.requests if r.method == "POST"]
        before = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}

        hub.fail_next("PUT", "/lfs/", status=403)
        failed = in_process(PUSH, env, str(run), "--repo_id", "me/tiny")
        assert failed.returncode == 2
        assert failed.stderr.strip().splitlines()[-1].count("repeat it") == 1
        assert "model.safetensors" not in hub.files("me/tiny")
        assert {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()} == before

        hub.fail_next("POST", "/commit/", status=None)
        dropped = in_process(PUSH, env, str(run), "--repo_id", "me/tiny")
        assert dropped.returncode == 2
        assert "Traceback" not in dropped.stderr
        assert "repeat it" in dropped.stderr.strip().splitlines()[-1]
        assert "model.safetensors" not in hub.files("me/tiny")

        done = in_process(PUSH, env, str(run), "--repo_id", "me/tiny")
        assert done.returncode == 0, done.stderr
        files = set(hub.files("me/tiny")) - {".gitattributes"}
        assert files == {*push.RELEASED, cards.CARD_FILE}
        token = env["HF_TOKEN"]
        assert not any(token in text for r in (failed, done) for text in (r.stdout, r.stderr))
        assert not any(token.encode() in data for data in hub.files("me/tiny").values())
        loaded = in_process(LOAD, env)
        assert loaded.returncode == 0, loaded.stderr
        config = read_json(run / "config.json")
        assert json.loads(loaded.stdout)[0] == config["vocab_size"]
        assert hub.unimplemented == []


SAVE = """
import sys
from hf_alignmlm import BertForAlignedMaskedLM
model = BertForAlignedMaskedLM.from_pretrained(sys.argv[1])
model.save_pretrained(sys.argv[2], push_to_hub=True, repo_id="me/saved", private=True)
"""


def test_the_librarys_own_push_takes_the_dictionary_along(run, tmp_path):
    with HubServer() as hub:
        env = hub.env(tmp_path / "home") | {"PYTHONPATH": str(ROOT)}
        done = in_process(SAVE, env, str(run), str(tmp_path / "saved"))
        assert done.returncode == 0, done.stderr
        files = hub.files("me/saved")
        assert {"model.safetensors", "config.json", "dictionary.json"} <= files.keys()
        assert json.loads(files["dictionary.json"]) == read_json(run / "dictionary.json")
        assert json.loads(files["config.json"])["architectures"] == ["BertForMaskedLM"]
        assert hub.unimplemented == []


TASK_CARD = r"""---
language: en
library_name: transformers
license: apache-2.0
pipeline_tag: token-classification
tags:
- hf_alignmlm
- multilingual
- arxiv:2211\.08547
model-index:
- name: me/tagger
  results:
(  .*\n)+---

# me/tagger

A bilingual BERT fine-tuned for POS on English, to see what transfers to `trans_inv`, its
synthetic twin, .*

## Use

```python
from transformers import AutoTokenizer, AutoModelForTokenClassification

tokenizer = AutoTokenizer\.from_pretrained\("me/tagger"\)
model = AutoModelForTokenClassification\.from_pretrained\("me/tagger"\)
```

## The derived language

`trans_inv` is English with .* \(seed 0\)\.

- original: [A-Za-z ,]+ [.!?]
- derived: [^A-Za-z]+

## Training

Fine-tuned from `tiny` \(.*\(ALIGN-MLM\)\) on the embedded corpus, .*: 40 rows, .* seed 0\. All
arguments .*

## Transfer

In percent, over 1 .*
with the first of them\.

\| task \| metric \| source \| zero-shot BZ \| supervised BS \| gap \| seeds \|
\| --- (\| ---: ){6}\|
\| POS \| accuracy \| NUM \| NUM \| NUM \| NUM \| 1 \|

## Limits

(.+\n)+
## Citation

```bibtex
(.+\n)+```
"""
TAG = "import sys, run_tagging; run_tagging.main(sys.argv[1:])"


def test_a_task_run_pushes_the_tagger_under_our_card(run, tmp_path):
    with HubServer() as hub:
        env = hub.env(tmp_path / "home") | {"PYTHONPATH": str(ROOT)}
        options = [
            "--task_name",
            "pos",
            "--use_cpu",
            "--max_steps",
            "2",
            "--max_train_samples",
            "40",
        ]
        options += ["--max_eval_samples", "20", "--push_to_hub", "--hub_model_id", "me/tagger"]
        folders = ["--model_name_or_path", str(run), "--output_dir", str(tmp_path / "tagger")]
        done = in_process(TAG, env, *folders, *options, "--disable_tqdm", "true")
        assert done.returncode == 0, done.stderr
        files = hub.files("me/tagger")
        card = files["README.md"].decode()
        pattern = TASK_CARD.replace("NUM", NUMBER)
        assert re.fullmatch(pattern.strip(), card.strip()), card
        wanted = {*push.RELEASED, cards.CARD_FILE} - {"dictionary.json"}
        assert set(files) - {".gitattributes"} == wanted
        assert read_json(tmp_path / "tagger" / "all_results.json")["arguments"]["output_dir"]
        assert not any(str(tmp_path.parent).encode() in data for data in files.values())
        assert not any(env["HF_TOKEN"].encode() in data for data in files.values())
        assert hub.unimplemented == []

"""The page of `alignmlm doctor`: what it measures, and which finding it makes of it."""

import json

import pytest
import torch
from transformers import BertConfig

from hf_alignmlm import cli
from hf_alignmlm.data.dictionary import BilingualDictionary, join
from hf_alignmlm.doctor import geometry
from hf_alignmlm.languages.natural import NaturalLanguages
from hf_alignmlm.models.backbones import BertForAlignedMaskedLM

PAIRS = [(i, 40 + i) for i in range(1, 30)] + [(3, 3), ((4, 5), (44, 45))]
SHAPE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
DICTIONARY = BilingualDictionary.from_pairs(PAIRS, fraction=0.7)


def table(kind):
    rows = torch.randn(80, 32, generator=torch.Generator().manual_seed(0))
    if kind == "aligned":
        rows[40:] = rows[:40]
    if kind == "one direction":
        rows = rows + 3
    if kind == "hubs":
        rows[41:46] = 5 * rows[1:40].mean(0)
    return rows


def checkpoint(folder, kind="aligned", dictionary=DICTIONARY, names=("en", "fr")):
    model = BertForAlignedMaskedLM(BertConfig(vocab_size=80, intermediate_size=32, **SHAPE))
    model.get_input_embeddings().weight.data.copy_(table(kind))
    model.set_dictionary(dictionary)
    model.save_pretrained(folder)
    NaturalLanguages(names).save_pretrained(folder)
    return str(folder)


def page(*argv):
    cli.run("doctor", list(argv))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("aligned", "The pairs are learned; words outside"),
        ("random", "The pairs are not learned: train longer"),
        ("one direction", "Rows share a direction, so that"),
    ],
)
def test_the_findings_follow_from_the_embeddings(tmp_path, kind, said, capsys):
    page(checkpoint(tmp_path / "run", kind))
    text = (tmp_path / "run" / "doctor.md").read_text()
    assert text in capsys.readouterr().out
    assert said in text
    assert "## en-fr" in text
    assert ("Rows share little" in text) == (kind != "one direction")
    assert "1 pairs; P@1 is" in text
    assert "By frequency" not in text


def test_hubs_and_directions_and_chance_are_measured():
    plain, hubs = (geometry(table(kind), DICTIONARY) for kind in ("aligned", "hubs"))
    assert hubs["hubs"] > plain["hubs"] > 0
    assert geometry(torch.ones(80, 4), DICTIONARY)["direction_derived"] == pytest.approx(1)
    assert plain["direction_original"] < 0.4
    original, derived = map(len, DICTIONARY.words)
    assert plain["chance"] == pytest.approx(100 * len(DICTIONARY.pairs) / original / derived)


def test_frequency_parts_and_tasks_have_their_lines(tmp_path):
    counted = DICTIONARY.with_counts([0, 5, 50, 500, 5000] * 6, [1] * len(DICTIONARY.words[1]))
    both = join({"en-fr": counted, "en-hi": BilingualDictionary.from_pairs(PAIRS[:20])})
    run = checkpoint(tmp_path / "run", dictionary=both, names=("en", "fr", "hi"))
    tasks = tmp_path / "tasks"
    for task, score in (("pos", 22.0), ("ner", 60.0)):
        (tasks / task).mkdir(parents=True)
        scores = {"bz": score, "bz_by_seed": [score], "majority_baseline": 20.0}
        result = {"task": task, "language": "en-fr", "objective": "mlm", "arguments": {}}
        if task == "ner":  # whose own baseline is the source's
            result |= {"languages": ["en", "fr"], "bz": score, "majority_baseline": 70.0}
        result |= scores if task == "pos" else {"transfer": {"fr": scores}}
        (tasks / task / "all_results.json").write_text(json.dumps(result))
    page(run, "--transfer", str(tasks), "--output", str(tmp_path / "page.md"))
    text = (tmp_path / "page.md").read_text()
    assert text.index("## en-fr") < text.index("By frequency") < text.index("## en-hi")
    assert text.count("By frequency") == 1
    assert "**pos**, en-fr: zero-shot 22.0, the majority's label alone 20.0. That is no tr" in text
    assert "**ner**, en-fr: zero-shot 60.0, the majority's label alone 20.0. There is tr" in text


def test_tasks_are_listed_by_language_and_one_without_transfer_says_so(tmp_path, capsys):
    run = checkpoint(tmp_path / "run")
    path = tmp_path / "tasks" / "all_results.json"
    path.parent.mkdir()
    scores = {"bz": 41.0, "bz_by_seed": [40.0, 42.0], "majority_baseline": 20.0}
    result = {"task": "pos", "language": "en", "languages": ["en"], "objective": "mlm"}
    result |= {"bz": None, "majority_baseline": 19.0, "metric": "accuracy", "source": 67.0}
    path.write_text(json.dumps(result | {"transfer": {}}))
    page(run, "--transfer", str(path.parent))
    shown = capsys.readouterr()
    assert "was tested on a second language: give `tag` or `nli` a test file" in shown.out
    assert "LOAD REPORT" not in shown.err
    path.write_text(json.dumps(result | {"transfer": {"fr": scores, "hi": scores}}))
    page(run, "--transfer", str(path.parent))
    assert (
        "**pos**, en-hi: zero-shot 41.0, the majority's label alone 20.0."
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("fault", ["no dictionary", "another vocabulary", "no checkpoint"])
def test_what_is_no_checkpoint_with_a_dictionary_is_an_error_of_one_line(tmp_path, fault, capsys):
    run = checkpoint(tmp_path / "run")
    if fault == "no dictionary":
        (tmp_path / "run" / "dictionary.json").unlink()
    if fault == "another vocabulary":
        BilingualDictionary.from_pairs([(1, 99)]).save_pretrained(run)
    if fault == "no checkpoint":
        (tmp_path / "run" / "model.safetensors").unlink()
    with pytest.raises(SystemExit) as caught:
        page(run)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert fault != "no dictionary" or "has no dictionary.json: give --dictionary_file" in line
    assert not (tmp_path / "run" / "doctor.md").exists()

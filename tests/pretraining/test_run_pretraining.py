"""The script, end to end: runs, resumptions, several processes, every source, every mistake."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig, FNetConfig

import run_pretraining
from hf_alignmlm import minienglish
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.files import exclusive
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.models.backbones import BertForAlignedMaskedLM
from hf_alignmlm.runs import RESULTS_FILE, last_whole_checkpoint

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "run_pretraining.py")
SHAPE = "hidden_size=32,num_hidden_layers=2,num_attention_heads=2,intermediate_size=64"
TINY = {
    "vocab_size": 400,
    "config_overrides": SHAPE,
    "max_seq_length": 32,
    "per_device_train_batch_size": 4,
    "max_steps": 4,
    "eval_strategy": "no",
    "save_steps": 2,
    "logging_steps": 1,
    "report_to": "none",
    "disable_tqdm": "true",
}


def command_line(options):
    argv = ["--use_cpu"]
    # What a model or a tokenizer has already cannot be asked for beside it.
    tiny = {
        name: value
        for name, value in TINY.items()
        if not (name == "vocab_size" and "tokenizer_name" in options)
        and not (name in ("vocab_size", "config_overrides") and "model_name_or_path" in options)
    }
    tiny |= options
    for name, value in tiny.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        argv += [f"--{name}", *map(str, values)] if value is not True else [f"--{name}"]
    return argv


def pretrain(folder, **options):
    """Run in this process and return the results file."""
    torch.set_num_threads(1)
    run_pretraining.main(command_line({"output_dir": folder, **options}))
    return json.loads((Path(folder) / RESULTS_FILE).read_text())


def environment():
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
    }


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def assert_same_weights(left, right):
    left, right = weights(left), weights(right)
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A training and a validation file of the embedded corpus."""
    folder = tmp_path_factory.mktemp("text")
    for split, count in (("train", 300), ("validation", 60)):
        lines = [" ".join(s.words) for s in islice(minienglish.sentences(split=split), count)]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "train_file": folder / "train.txt",
        "validation_file": folder / "validation.txt",
    }


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory):
    """A finished run of the default objective and language, with its results."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    results = pretrain(folder, **text, max_steps=6, eval_strategy="steps", eval_steps=3)
    return folder, results


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, to do things to."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))


# --- results --------------------------------------------------------------------------------------

REQUIRED = {
    *("objective", "language", "seed", "train_steps", "train_tokens", "train_tokens_per_second"),
    *("padding_share", "eval_original_mlm_loss", "eval_derived_mlm_loss"),
    *("eval_original_perplexity", "eval_derived_perplexity", "alignment_p1", "alignment_p1_seen"),
    *("alignment_p1_heldout", "alignment_csls_p1", "versions", "arguments"),
}


def test_the_results_file_has_every_figure(finished):
    _, results = finished
    assert results.keys() >= REQUIRED
    assert results["objective"] == "align-mlm"
    assert results["language"] == "trans_inv"
    assert results["train_steps"] == 6
    assert 0 < results["train_tokens"] <= 6 * 4 * 32
    assert results["train_tokens_per_second"] > 0
    assert 0 <= results["padding_share"] < 100
    for name in ("original", "derived"):
        loss = results[f"eval_{name}_mlm_loss"]
        assert results[f"eval_{name}_perplexity"] == pytest.approx(
            torch.tensor(loss).exp().item(), rel=1e-4
        )
    assert 0 <= results["alignment_p1"] <= 100
    # The whole vocabulary was seen: there is nothing to measure held-out pairs on.
    assert results["alignment_p1_heldout"] is None
    assert results["alignment_p1_seen"] == results["alignment_p1"]


def test_held_out_pairs_are_measured_where_there_are_some(tmp_path, text):
    results = pretrain(tmp_path / "run", **text, dictionary_fraction=0.5, learning_rate=0.01)
    seen, heldout = results["alignment_p1_seen"], results["alignment_p1_heldout"]
    assert seen is not None
    assert heldout is not None
    assert min(seen, heldout) <= results["alignment_p1"] <= max(seen, heldout)
    dictionary = BilingualDictionary.from_pretrained(tmp_path / "run")
    assert abs(len(dictionary.seen) - len(dictionary.heldout)) <= 1
    # Nothing is seen of the other half.
    seen_ids = {word for pair in dictionary.seen for word in pair}
    assert not seen_ids & {word for pair in dictionary.heldout for word in pair}


def test_the_recorded_arguments_make_the_run_again(finished, tmp_path):
    folder, results = finished
    names = ("train_file", "validation_file", "max_steps", "eval_strategy", "eval_steps", "seed")
    again = pretrain(tmp_path / "again", **{name: results["arguments"][name] for name in names})
    assert_same_weights(folder, tmp_path / "again")
    timing = ("train_runtime", "train_tokens_per_second", "cpu_minutes", "arguments")
    assert {n: v for n, v in again.items() if n not in timing} == {
        n: v for n, v in results.items() if n not in timing
    }
    assert again["arguments"] | {"output_dir": None} == results["arguments"] | {"output_dir": None}


def test_the_log_has_each_part_of_the_loss_and_of_each_language(finished):
    log = json.loads((finished[0] / "trainer_state.json").read_text())["log_history"]
    parts = [entry for entry in log if "loss" in entry]
    assert len(parts) == 6
    for entry in parts:
        together = entry["mlm_loss"] + 10 * entry["alignment_loss"]
        assert entry["loss"] == pytest.approx(together, rel=1e-3, abs=1e-3)
    for name in ("eval_original_perplexity", "eval_derived_perplexity", "eval_alignment_p1"):
        assert [entry["step"] for entry in log if name in entry][:2] == [3, 6], name


def test_one_line_says_what_to_expect_before_training(tmp_path, text, capsys):
    pretrain(tmp_path / "run", **text, objective="mlm", language="inv", max_steps=2)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("mlm on inv: ")
    for word in ("parameters", "tokens", "2 steps", "GiB", "min"):
        assert word in first


# --- the output is plain BERT ---------------------------------------------------------------------

STOCK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("hf_alignmlm", "run_pretraining"):
            raise ModuleNotFoundError(f"{name} is not installed here")

sys.meta_path.insert(0, Absent())
import torch
from transformers import (
    AutoModel, AutoModelForMaskedLM, AutoModelForTokenClassification, AutoTokenizer
)

folder, text, out = sys.argv[1:]
result = {}
result["ids"] = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
for model_class in (AutoModel, AutoModelForMaskedLM, AutoModelForTokenClassification):
    model, report = model_class.from_pretrained(folder, output_loading_info=True)
    model.eval()
    assert type(model).__module__ == "transformers.models.bert.modeling_bert", type(model)
    assert not report["unexpected_keys"] or model_class is not AutoModelForMaskedLM, report
    with torch.no_grad():
        output = model(result["ids"], output_hidden_states=True)
    result[model_class.__name__] = output.hidden_states
    if model_class is AutoModelForMaskedLM:
        result["logits"] = output.logits
        assert not any(report.values()), report
assert not any(name.startswith("hf_alignmlm") for name in sys.modules)
torch.save(result, out)
"""


def test_stock_classes_load_the_output_where_this_package_is_absent(finished, tmp_path):
    folder, _ = finished
    assert "auto_map" not in (folder / "config.json").read_text()
    language = SyntheticLanguage.from_pretrained(folder)
    words = next(iter(minienglish.sentences(split="test"))).words[:5]
    text = " ".join([*words, *language.derive(words)])
    (tmp_path / "stock.py").write_text(STOCK)
    out = tmp_path / "out.pt"
    command = [sys.executable, "-I", str(tmp_path / "stock.py"), str(folder), text, str(out)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "remote" not in done.stderr
    found = torch.load(out)
    ours = BertForAlignedMaskedLM.from_pretrained(folder).eval()
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
    assert torch.equal(found["ids"], ids)
    assert (ids >= ours.config.vocab_size // 2).any(), "both languages are there"
    with torch.no_grad():
        expected = ours(ids, output_hidden_states=True)
    for name in ("AutoModel", "AutoModelForMaskedLM", "AutoModelForTokenClassification"):
        assert len(found[name]) == 3
        for left, right in zip(found[name], expected.hidden_states, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["logits"], expected.logits, rtol=1e-5, atol=1e-5)


def test_the_output_is_complete(finished):
    folder, _ = finished
    model = BertForAlignedMaskedLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.objective == "align-mlm"
    assert model.dictionary == BilingualDictionary.from_pretrained(folder)
    assert SyntheticLanguage.from_pretrained(folder).name == "trans_inv"
    assert tokenizer.model_max_length == 32


# --- killed, resumed, finished --------------------------------------------------------------------


def test_a_killed_run_goes_on_to_the_weights_of_an_uninterrupted_one(tmp_path):
    # With dropout, so that the state of the random numbers counts as well.
    overrides = f"{SHAPE},hidden_dropout_prob=0.1"
    options = {
        "config_overrides": overrides,
        "max_train_samples": 300,
        "max_eval_samples": 40,
        "max_steps": 120,
        "save_steps": 20,
        "learning_rate": 0.001,
    }
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, SCRIPT, *command_line({"output_dir": killed, **options})]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment(), **pipes) as process:
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            # A narrow pipe: the run waits for its reader, and cannot end before it is killed.
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        logged = []
        for line in process.stdout:
            logged.append(line)
            sealed = (killed / "checkpoint-20" / "manifest.json").exists()
            if sealed and sum("'mlm_loss'" in entry for entry in logged) >= 24:
                break
        process.send_signal(signal.SIGKILL)
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL, "".join(logged)[-3000:]
    assert last_whole_checkpoint(killed) is not None
    assert not (killed / "checkpoint-120").exists()
    assert not (killed / RESULTS_FILE).exists()

    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=300, check=True
    )
    assert "Resuming from" in done.stdout
    assert done.stdout.count("'mlm_loss'") <= 100, "it did not start from the beginning"
    expected = pretrain(whole, **options)
    assert_same_weights(killed, whole)
    results = json.loads((killed / RESULTS_FILE).read_text())
    for name in ("train_steps", "train_tokens", "eval_derived_mlm_loss", "alignment_p1"):
        assert results[name] == expected[name], name
    assert results["train_tokens_per_second"] > 0


@pytest.mark.parametrize(
    "options",
    [{"streaming": True, "shuffle_buffer": 20}, {"isolate_sentences": "true"}],
    ids=["streaming", "isolated"],
)
def test_a_run_goes_on_from_an_earlier_checkpoint(options, text, tmp_path, capsys):
    options = {**text, **options, "max_steps": 8, "save_total_limit": 4}
    pretrain(tmp_path / "whole", **options)
    part = Path(shutil.copytree(tmp_path / "whole", tmp_path / "part"))
    for name in ("checkpoint-6", "checkpoint-8"):
        shutil.rmtree(part / name)
    for name in (RESULTS_FILE, "model.safetensors"):
        (part / name).unlink()
    capsys.readouterr()
    pretrain(part, **options)
    printed = capsys.readouterr().out
    assert f"Resuming from {part / 'checkpoint-4'}" in printed
    assert printed.count("'mlm_loss'") == 4, "the other half alone"
    assert_same_weights(tmp_path / "whole", part)


def test_a_run_killed_after_its_last_step_is_finished(finished, copy, text):
    (copy / RESULTS_FILE).unlink()
    results = pretrain(copy, **text, max_steps=6, eval_strategy="steps", eval_steps=3)
    assert_same_weights(finished[0], copy)
    for name in ("train_steps", "train_tokens", "alignment_p1", "eval_original_mlm_loss"):
        assert results[name] == finished[1][name]


def test_a_finished_run_says_so_and_changes_nothing(copy, text, capsys):
    before = snapshot(copy)
    pretrain(copy, **text, max_steps=6, eval_strategy="steps", eval_steps=3)
    assert "holds this run, finished" in capsys.readouterr().out
    assert snapshot(copy) == before


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt"])
def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(
    damage, name, finished, copy, text, capsys, monkeypatch
):
    said = []
    monkeypatch.setattr(
        "hf_alignmlm.runs.logger.warning", lambda line, *values: said.append(line % values)
    )
    damage(copy / "checkpoint-6" / name)
    (copy / RESULTS_FILE).unlink()
    pretrain(copy, **text, max_steps=6, eval_strategy="steps", eval_steps=3)
    assert any("checkpoint-6 is damaged" in line for line in said)
    assert f"Resuming from {copy / 'checkpoint-4'}" in capsys.readouterr().out
    assert_same_weights(finished[0], copy)
    assert last_whole_checkpoint(copy) == str(copy / "checkpoint-6"), "written anew"


def kill_and_go_on(points, text, folder):
    """Kill a run at each of these points, let the same command go on, and compare the ends."""
    files = {name: str(path) for name, path in text.items()}
    argv = command_line({**files, "output_dir": "OUTPUT", "save_steps": 1})
    driver = str(Path(__file__).parent / "kill_driver.py")
    command = [sys.executable, driver, str(folder), json.dumps(points), json.dumps(argv)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {p.name for p in folder.iterdir()} == {"whole", *map(str, points)}
    # In these there are times, or names of folders.
    differing = ("train_runtime", "train_tokens_per_second", "cpu_minutes", "arguments")
    timed = ("all_results.json", "trainer_state.json", "training_args.bin", "run_arguments.json")
    timed += ("manifest.json",)
    whole = snapshot(folder / "whole")
    results = json.loads((folder / "whole" / RESULTS_FILE).read_text())
    for point in map(str, points):
        found = snapshot(folder / point)
        assert found.keys() == whole.keys(), point
        for path, data in found.items():
            assert path.name in timed or data == whole[path], (point, path)
        again = json.loads((folder / point / RESULTS_FILE).read_text())
        assert [again[n] for n in again if n not in differing] == [
            results[n] for n in again if n not in differing
        ], point


def test_a_run_killed_as_it_writes_goes_on_by_the_same_command(text, tmp_path):
    kill_and_go_on(["tokenizer 1", "seal 4", "tokenizer 6"], text, tmp_path)


@pytest.mark.slow
def test_a_run_killed_at_any_write_goes_on_by_the_same_command(text, tmp_path):
    names = [f"tokenizer {n}" for n in range(1, 7)] + [f"seal {n}" for n in range(1, 5)]
    kill_and_go_on([*names, *range(1, 90, 4)], text, tmp_path)


def test_the_second_of_two_at_once_is_refused(tmp_path, text, capsys):
    with exclusive(tmp_path / "run"), pytest.raises(SystemExit) as stop:
        pretrain(tmp_path / "run", **text)
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "run is in use by another command: wait for it, or name another output" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["it", "above", "inside"])
def test_overwriting_never_reaches_the_model_that_a_run_starts_from(place, copy, text, capsys):
    folder = {"it": copy, "above": copy.parent, "inside": copy / "again"}[place]
    before = snapshot(copy)
    with pytest.raises(SystemExit) as stop:
        pretrain(folder, **text, model_name_or_path=copy, overwrite_output_dir=True)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"could remove {copy}" in line
    assert snapshot(copy) == before


def test_overwriting_starts_afresh(copy, text):
    mine = [copy / "checkpoint-old.txt", copy / "scores-mine.json", copy / "notes.txt"]
    for path in mine:
        path.write_text("mine")
    results = pretrain(
        copy, **text, objective="mlm", language="inv", max_steps=2, overwrite_output_dir=True
    )
    assert results["objective"] == "mlm"
    assert results["train_steps"] == 2
    assert sorted(p.name for p in copy.glob("checkpoint-*")) == [
        "checkpoint-2",
        "checkpoint-old.txt",
    ]
    assert {path.read_text() for path in mine} == {"mine"}
    # Nothing of the old run is taken for the new one's.
    assert SyntheticLanguage.from_pretrained(copy).name == "inv"
    assert BertForAlignedMaskedLM.from_pretrained(copy).dictionary is None
    assert results["alignment_p1"] is None


# --- several processes ----------------------------------------------------------------------------


def test_two_processes_give_the_results_of_one_with_twice_the_batch(tmp_path, text):
    options = {**text, "dictionary_fraction": 0.5, "max_steps": 6, "learning_rate": 0.001}
    one, two = tmp_path / "one", tmp_path / "two"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [SCRIPT, *command_line({"output_dir": two, **options})]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    expected = pretrain(one, **options, per_device_train_batch_size=8)
    results = json.loads((two / RESULTS_FILE).read_text())
    differing = ("train_runtime", "train_tokens_per_second", "cpu_minutes", "arguments")
    assert results.keys() == expected.keys()
    for name in expected.keys() - set(differing):
        if isinstance(expected[name], float):
            # Among a few hundred words a rank may turn on the last bit.
            tolerance = {"abs": 1.0} if "alignment" in name else {"rel": 1e-4}
            assert results[name] == pytest.approx(expected[name], **tolerance), name
        else:
            assert results[name] == expected[name], name
    assert (one / "dictionary.json").read_bytes() == (two / "dictionary.json").read_bytes()
    assert (one / "tokenizer.json").read_bytes() == (two / "tokenizer.json").read_bytes()
    left, right = weights(one), weights(two)
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=1e-3, atol=1e-4)


# --- objectives, sources, models ------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "mlm"},
        {"objective": "mlm", "language": "inv"},
        {"objective": "mlm", "language": "perm", "isolate_sentences": "false"},
        {"objective": "mlm", "alignment_loss_weight": 10},
        {"objective": "xlm", "tlm_rate": 0.5},
        {"objective": "xlm", "isolate_sentences": "true", "language_embeddings": "false"},
        {"objective": "xlm", "alignment_loss_weight": 2.5, "dictionary_fraction": 0.25},
        {"objective": "dict-mlm"},
        {"objective": "dict-mlm", "dict_mlm_variant": "label", "language": "trans"},
        {"objective": "align-mlm", "language": "trans50"},
        {"objective": "align-mlm", "language": "trans_perm", "lowercase": True},
        {"objective": "align-mlm", "bf16": True, "gradient_accumulation_steps": 2},
    ],
    ids=lambda options: " ".join(f"{v}" if n == "objective" else n for n, v in options.items()),
)
def test_every_objective_runs(options, tmp_path, text):
    results = pretrain(tmp_path / "run", **text, **options)
    assert results["train_steps"] == 4
    assert results["objective"] == options["objective"]
    aligned = options["objective"] == "align-mlm" or "alignment_loss_weight" in options
    log = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    lines = [entry for entry in log if "loss" in entry]
    assert all(("alignment_loss" in line) == aligned for line in lines)
    assert all(line["mlm_loss"] > 0 for line in lines)
    has_words = options.get("language", "trans_inv").startswith("trans")
    assert (results["alignment_p1"] is None) != has_words
    for name in ("original", "derived"):
        assert results[f"eval_{name}_perplexity"] < 10_000
    config = BertForAlignedMaskedLM.from_pretrained(tmp_path / "run").config
    expected = {"true": True, "false": False}.get(options.get("language_embeddings"))
    if expected is None:
        expected = options["objective"] == "xlm"
    assert config.language_embeddings is expected


def test_epochs_are_what_is_trained_where_they_are_asked_for(tmp_path, text):
    options = {"num_train_epochs": 2, "per_device_train_batch_size": 64, "max_steps": None}
    results = pretrain(tmp_path / "run", **text, **options)
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    assert results["train_steps"] == state["max_steps"]
    assert (state["epoch"], results["arguments"]["max_steps"]) == (2, -1)


def test_a_shared_word_has_no_pair(tmp_path, text):
    pretrain(tmp_path / "half", **text, language="trans50")
    pretrain(tmp_path / "whole", **text, language="trans")
    half, whole = (
        len(BilingualDictionary.from_pretrained(tmp_path / name)) for name in ("half", "whole")
    )
    assert whole / 4 < half < whole


def test_a_stream_trains_as_long_as_it_is_told(tmp_path, text):
    results = pretrain(tmp_path / "run", **text, streaming=True, shuffle_buffer=50)
    assert results["train_steps"] == 4
    assert results.keys() >= REQUIRED
    assert results["eval_original_perplexity"] > 1
    # Sequences run on end to end, so that only the last of each language is short.
    assert 0 <= results["padding_share"] < 30


def test_a_folder_of_parquet_files_is_a_data_set(tmp_path, text):
    from datasets import Dataset

    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        lines = text[f"{split}_file"].read_text().splitlines()
        Dataset.from_dict({"text": lines}).to_parquet(tmp_path / "data" / f"{split}.parquet")
    results = pretrain(tmp_path / "run", dataset_name=tmp_path / "data", max_eval_samples=20)
    assert results["train_steps"] == 4
    direct = pretrain(tmp_path / "text", **text, max_eval_samples=20)
    assert results["eval_original_mlm_loss"] == direct["eval_original_mlm_loss"]


def test_several_files_of_several_formats_are_one_corpus(tmp_path, text):
    import gzip

    lines = text["train_file"].read_text().splitlines()
    rows = [json.dumps({"text": line}) for line in lines[:100]]
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as stream:
        stream.write("\n".join(rows))
    (tmp_path / "b.txt").write_text("\n".join(lines[100:]))
    files = [tmp_path / "a.jsonl.gz", tmp_path / "b.txt"]
    mixed = pretrain(tmp_path / "mixed", train_file=files, validation_file=text["validation_file"])
    whole = pretrain(tmp_path / "whole", **text)
    assert mixed["eval_derived_mlm_loss"] == whole["eval_derived_mlm_loss"]
    assert_same_weights(tmp_path / "mixed", tmp_path / "whole")


def test_training_goes_on_from_a_checkpoint(finished, tmp_path, text):
    folder, before = finished
    results = pretrain(
        tmp_path / "run",
        **text,
        model_name_or_path=folder,
        objective="mlm",
        learning_rate=1e-9,
        max_steps=1,
    )
    assert results["train_steps"] == 1
    # A step that moves nothing: the weights, the tokenizer and the figures are those of before.
    assert (tmp_path / "run" / "tokenizer.json").read_bytes() == (
        folder / "tokenizer.json"
    ).read_bytes()
    assert results["alignment_p1"] == before["alignment_p1"]
    assert results["eval_derived_mlm_loss"] == pytest.approx(
        before["eval_derived_mlm_loss"], rel=1e-4
    )
    config = BertForAlignedMaskedLM.from_pretrained(tmp_path / "run").config
    assert config.objective == "mlm"
    assert config.alignment_loss_weight == 0


def test_a_single_vocabulary_is_doubled_to_go_on_from(tmp_path, text):
    pretrain(tmp_path / "one", **text, objective="mlm", language="inv")
    pretrain(tmp_path / "two", **text, model_name_or_path=tmp_path / "one")
    one, two = (BertForAlignedMaskedLM.from_pretrained(tmp_path / n) for n in ("one", "two"))
    assert two.config.vocab_size == 2 * one.config.vocab_size
    assert two.dictionary is not None


def test_the_spelling_of_rare_characters_survives_going_on(tmp_path):
    # ж and 漢 are not among the characters that every language can spell.
    lines = ["The ж and the 漢 see the ж and the 漢 ."] * 40
    (tmp_path / "rare.txt").write_text("\n".join(lines), encoding="utf-8")
    options = {"train_file": tmp_path / "rare.txt", "max_steps": 1}
    pretrain(tmp_path / "first", **options, vocab_size=60)
    pretrain(tmp_path / "second", **options, model_name_or_path=tmp_path / "first")
    first, second = (SyntheticLanguage.from_pretrained(tmp_path / n) for n in ("first", "second"))
    assert first.spell("ж") != "ж"
    assert second == first


def test_a_configuration_of_ones_own(tmp_path, text):
    BertConfig(
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=40,
        max_position_embeddings=48,
    ).save_pretrained(tmp_path / "config")
    pretrain(
        tmp_path / "run",
        **text,
        config_name=tmp_path / "config",
        config_overrides="num_hidden_layers=3",
    )
    config = BertForAlignedMaskedLM.from_pretrained(tmp_path / "run").config
    assert (config.hidden_size, config.num_hidden_layers) == (24, 3)
    assert config.max_position_embeddings == 48
    assert config.vocab_size == len(AutoTokenizer.from_pretrained(tmp_path / "run"))


def test_a_tokenizer_of_ones_own(tmp_path, text, tokenizer):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    pretrain(tmp_path / "run", **text, tokenizer_name=tmp_path / "tokenizer")
    found = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert len(found) == 2 * len(tokenizer)
    assert found.convert_ids_to_tokens(range(len(tokenizer))) == tokenizer.convert_ids_to_tokens(
        range(len(tokenizer))
    )


def test_a_stream_that_is_all_held_out_is_refused(tmp_path, text, tokenizer, capsys):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    options = {"streaming": True, "tokenizer_name": tmp_path / "tokenizer"}
    with pytest.raises(SystemExit):
        pretrain(tmp_path / "run", train_file=text["train_file"], **options)
    assert "all of it went to validation (give --validation_file)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# --- mistakes -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """Files that cannot be used, and models of other kinds."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "blank.txt").write_bytes(b" \n\n")
    (folder / "latin1.txt").write_bytes("The first line .\nA caf\u00e9 .\n".encode("latin-1"))
    (folder / "columns.jsonl").write_text('{"headline": "a"}\n')
    (folder / "broken.jsonl").write_text('{"text": \n')
    (folder / "not_gzip.txt.gz").write_text("plain")
    (folder / "not_parquet.parquet").write_text("plain")
    (folder / "no_pair.txt").write_text("one\nthree words here\n")
    (folder / "pairs.txt").write_text("one un\ntwo deux\nthe le\n")
    (folder / "latin1_pairs.txt").write_bytes("caf\u00e9 caf\u00e9\n".encode("latin-1"))
    spelled = SyntheticLanguage.from_name("trans").spell
    (folder / "derived.txt").write_text(f"{spelled('one')} {spelled('two')}\n" * 3)
    FNetConfig(hidden_size=24).save_pretrained(folder / "fnet")
    (folder / "folder").mkdir()
    return folder


MISTAKES = {
    "no such file": ({"train_file": "{bad}/nowhere.txt"}, ["nowhere.txt", "no such file"]),
    "no such validation file": ({"validation_file": "{bad}/no.txt"}, ["no.txt", "no such file"]),
    "an empty file": ({"train_file": "{bad}/empty.txt"}, ["empty.txt is empty"]),
    "a blank file": ({"train_file": "{bad}/blank.txt"}, ["blank.txt is empty"]),
    "not UTF-8": ({"train_file": "{bad}/latin1.txt"}, ["latin1.txt, line 2", "UTF-8", "convert"]),
    "a folder": ({"train_file": "{bad}/folder"}, ["folder is a folder", "name the files"]),
    "no text column": ({"train_file": "{bad}/columns.jsonl"}, ["columns.jsonl", "headline"]),
    "broken JSON": ({"train_file": "{bad}/broken.jsonl"}, ["broken.jsonl"]),
    "not gzip": ({"train_file": "{bad}/not_gzip.txt.gz"}, ["not_gzip.txt.gz", "damaged gzip"]),
    "not parquet": ({"train_file": "{bad}/not_parquet.parquet"}, ["not_parquet.parquet"]),
    "derived script": ({"train_file": "{bad}/derived.txt"}, ["derived script"]),
    "two sources": ({"dataset_name": "{bad}/folder"}, ["--train_file or --dataset_name"]),
    "language": ({"language": "klingon"}, ["unknown language 'klingon'", "trans", "inv", "perm"]),
    "objective": ({"objective": "clm"}, ["unknown objective 'clm'", "dict-mlm, align-mlm"]),
    "size": ({"size": "huge"}, ["unknown size 'huge'", "mini, small, paper"]),
    "option": ({"alignment_los_weight": 3}, ["--alignment_los_weight", "--help"]),
    "fraction over 1": ({"dictionary_fraction": 1.5}, ["dictionary_fraction", "0 and 1", "1.5"]),
    "fraction under 0": ({"dictionary_fraction": -0.5}, ["dictionary_fraction", "-0.5"]),
    "mlm_probability": ({"mlm_probability": 1.01}, ["mlm_probability", "0 and 1", "1.01"]),
    "tlm_rate": ({"objective": "xlm", "tlm_rate": -1}, ["tlm_rate", "0 and 1"]),
    "variant": (
        {"objective": "dict-mlm", "dict_mlm_variant": "both"},
        ["dict_mlm_variant 'both'", "input, label"],
    ),
    "another objective's option": ({"tlm_rate": 0.5}, ["--tlm_rate is an option of xlm"]),
    "no usable pair": ({"dictionary_file": "{bad}/no_pair.txt"}, ["no_pair.txt", "no usable line"]),
    "no dictionary": ({"dictionary_file": "{bad}/no.txt"}, ["no.txt", "no such file"]),
    "dictionary not UTF-8": ({"dictionary_file": "{bad}/latin1_pairs.txt"}, ["latin1", "UTF-8"]),
    "model": ({"model_name_or_path": "{bad}/no-model"}, ["no-model"]),
    "tokenizer": ({"tokenizer_name": "{bad}/no-tokenizer"}, ["no-tokenizer"]),
    "configuration": ({"config_name": "{bad}/no-config"}, ["no-config"]),
    "an architecture": ({"config_name": "{bad}/fnet"}, ["'fnet'", "known are bert, roberta"]),
    "override": ({"config_overrides": "depth=3"}, ["depth"]),
    "override's type": ({"config_overrides": "hidden_size=large"}, ["large"]),
    "heads": ({"config_overrides": "hidden_size=32,num_attention_heads=5"}, ["32", "5"]),
    "vocabulary": ({"vocab_size": 10}, ["vocab_size 10 is too small"]),
    "length": ({"max_seq_length": 4}, ["max_seq_length", "at least 8"]),
    "positions": (
        {"config_overrides": "max_position_embeddings=16"},
        ["max_seq_length 32", "16 positions"],
    ),
    "no pair seen": ({"dictionary_fraction": "0"}, ["dictionary_fraction 0.0", "no pair"]),
    "nothing to align": (
        {"language": "inv"},
        ["inv", "no pairs of words to align", "--dictionary_file"],
    ),
    "no rows": ({"max_train_samples": 0}, ["max_train_samples must be at least 1, not 0"]),
    "an endless stream": ({"streaming": True, "max_steps": -1}, ["stream", "--max_steps"]),
    "a stream of derived script": (
        {"streaming": True, "train_file": "{bad}/derived.txt"},
        ["derived script"],
    ),
    "checkpoints": ({"save_total_limit": 1}, ["save_total_limit must be at least 2"]),
    # Options that do nothing.
    "validation alone": ({"train_file": None}, ["--validation_file does", "--train_file"]),
    "a dictionary of other words": ({"dictionary_file": "{bad}/pairs.txt"}, ["pairs.txt", "trans"]),
    "no name": ({"dataset_name": ""}, ["--dataset_name is empty"]),
    "a configuration's name alone": ({"dataset_config_name": "en"}, ["without --dataset_name"]),
    "a shape beside a model": (
        {"model_name_or_path": "{bad}/no-model", "config_overrides": SHAPE},
        ["--config_overrides does nothing beside --model_name_or_path"],
    ),
    "resume": ({"resume_from_checkpoint": "/nowhere"}, ["--resume_from_checkpoint", "by itself"]),
    "a push's strategy": (
        {"hub_strategy": "checkpoint"},
        ["--hub_strategy does nothing", "at its end"],
    ),
    # Packages that are not here, and what the library refuses when it trains.
    "wandb": ({"report_to": "wandb"}, ["wandb"]),
    "8 bits": ({"optim": "adamw_8bit"}, ["bitsandbytes"]),
    "deepspeed": ({"deepspeed": "ds.json"}, ["deepspeed"]),
    "workers": ({"dataloader_persistent_workers": "true"}, ["persistent_workers"]),
    "schedule": ({"lr_scheduler_kwargs": '{"depth": 1}'}, ["depth"]),
    "beta": ({"adam_beta2": "1"}, ["beta"]),
    # Configurations that give no model.
    **{
        f"override {values}": ({"config_overrides": values}, [values.split("=")[0]])
        for values in (
            *("hidden_size=0", "num_hidden_layers=-1", "num_attention_heads=0", "vocab_size=5"),
            *("intermediate_size=0", "type_vocab_size=1", "layer_norm_eps=nan", "hidden_act=sine"),
            *("hidden_dropout_prob=-1", "pad_token_id=9999", "initializer_range=inf", "depth"),
        )
    },
    # Numbers out of range.
    **{
        f"{name} {value}": ({name: value}, [f"{name} must", value])
        for name, values in {
            "max_steps": ["0", "-2"],
            "per_device_train_batch_size": ["0", "-1"],
            "gradient_accumulation_steps": ["0"],
            "num_train_epochs": ["0", "-1", "nan", "inf"],
            "learning_rate": ["0", "-0.1", "nan", "inf"],
            "weight_decay": ["-1", "nan"],
            "warmup_steps": ["-1", "nan", "inf"],
            "logging_steps": ["0", "-1", "nan"],
            "save_steps": ["0", "-1", "inf"],
            "eval_steps": ["-1", "nan"],
            "max_grad_norm": ["-1", "nan"],
            "label_smoothing_factor": ["-1", "2"],
            "dataloader_num_workers": ["-1"],
            "seed": ["-1", "4294967296"],
            "data_seed": ["-1"],
            "language_seed": ["-1"],
            "dictionary_seed": ["-1"],
            "dictionary_fraction": ["nan", "inf"],
            "alignment_loss_weight": ["-1", "nan", "inf"],
            "vocab_size": ["0", "-5"],
            "max_seq_length": ["0", "-1"],
            "max_train_samples": ["-1"],
            "max_eval_samples": ["0", "-1"],
            "shuffle_buffer": ["0"],
            "validation_split_percentage": ["0", "100", "-1"],
            "preprocessing_num_workers": ["0", "-1"],
        }.items()
        for value in values
    },
}


def filled(value, bad):
    return value.replace("{bad}", str(bad)) if isinstance(value, str) else value


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_before_anything_is_written(name, bad, text, tmp_path, capsys):
    options, expected = MISTAKES[name]
    options = {**text, **{n: filled(v, bad) for n, v in options.items()}}
    with pytest.raises(SystemExit) as stop:
        pretrain(tmp_path / "run", **options)
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    (line,) = errors.splitlines()
    assert "error: " in line
    for words in expected:
        assert words in line
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["no usable pair", "positions", "fraction over 1", "not UTF-8"])
def test_a_mistake_overwrites_nothing_even_where_told_to_overwrite(name, bad, text, copy, capsys):
    options, _ = MISTAKES[name]
    options = {n: v.format(bad=bad) if isinstance(v, str) else v for n, v in options.items()}
    before = snapshot(copy)
    with pytest.raises(SystemExit):
        pretrain(copy, **{**text, **options}, overwrite_output_dir=True)
    assert snapshot(copy) == before


def test_another_run_in_the_folder_is_refused(copy, text, capsys):
    before = snapshot(copy)
    with pytest.raises(SystemExit) as stop:
        pretrain(copy, **text, seed=7, eval_strategy="steps", eval_steps=3, max_steps=6)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "differs in seed" in line
    assert "--overwrite_output_dir" in line
    assert snapshot(copy) == before


def test_a_folder_with_other_files_is_refused(tmp_path, text, capsys):
    (tmp_path / "letter.txt").write_text("Dear reader")
    with pytest.raises(SystemExit) as stop:
        pretrain(tmp_path, **text)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not empty and holds no run" in line
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_the_shell_sees_one_line_and_code_2(tmp_path):
    command = [sys.executable, SCRIPT, "--language", "klingon", "--output_dir", "run", "--use_cpu"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("run_pretraining.py: error: unknown language 'klingon'")
    assert not any(tmp_path.iterdir())

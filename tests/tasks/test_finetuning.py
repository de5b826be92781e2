"""The task scripts, end to end, on a checkpoint made here."""

import builtins
import io
import json
import os
import shutil

import pytest
import torch
from refusals import refused
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification, BertConfig, BertForMaskedLM, Trainer

import run_tagging
import run_xnli
from hf_alignmlm.files import exclusive, write_json
from hf_alignmlm.tasks import TASKS, finetuning
from hf_alignmlm.tasks.finetuning import verbs

FAST = [
    *("--use_cpu", "--max_train_samples", "60", "--max_eval_samples", "20"),
    *("--num_train_epochs", "1", "--disable_tqdm", "true", "--report_to", "none"),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_checkpoint(folder, tokenizer, language=None):
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if language is not None:
        language.save_pretrained(folder)
        results = {"objective": "mlm", "alignment_p1": 1.5, "seed": 3}
        write_json(folder / "all_results.json", results)
    return str(folder)


@pytest.fixture(scope="module")
def checkpoint(doubled, tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), *doubled)


@pytest.mark.parametrize("task", ["pos", "ner", "nli"])
def test_one_run_gives_all(checkpoint, tmp_path, task):
    script = run_xnli if task == "nli" else run_tagging
    argv = ["--model_name_or_path", checkpoint, "--output_dir", str(tmp_path / "run"), *FAST]
    script.main([*argv, "--task_name", task, "--seeds", "0", "1"])
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    for name in ("source", "bz", "bs", "transfer_gap"):
        assert len(results[f"{name}_by_seed"]) == 2
        assert results[f"{name}_sd"] is not None
        assert results[name] == pytest.approx(sum(results[f"{name}_by_seed"]) / 2)
    assert results["transfer_gap"] == pytest.approx(results["bz"] - results["bs"])
    assert results["task"] == task
    assert results["language"] == "trans_inv"
    assert (results["objective"], results["alignment_p1"]) == ("mlm", 1.5)
    assert (results["n_train"], results["n_test"]) == (60, 20)
    assert results["seeds"] == [0, 1]
    wanted = {"majority_baseline", "truncated_words", "train_runtime", "arguments", "versions"}
    assert wanted <= results.keys()
    metric = {"pos": "macro_f1", "ner": "seqeval_strict_f1", "nli": "majority_baseline"}[task]
    assert f"bz_{metric}" in results


def test_scores_are_of_the_rows_they_belong_to(checkpoint, tmp_path):
    words = {"a": "DET", "the": "DET", "in": "ADP", "on": "ADP"}
    rows = [list(words)[i % 4 :] * (1 + i % 5) for i in range(200)]
    path = tmp_path / "data.jsonl"
    lines = [json.dumps({"tokens": row, "tags": [words[w] for w in row]}) for row in rows]
    path.write_text("\n".join(lines))
    argv = ["--model_name_or_path", checkpoint, "--output_dir", str(tmp_path / "run"), *FAST]
    argv += ["--task_name", "pos", "--train_file", str(path), "--test_file", str(path)]
    argv += ["--max_train_samples", "200", "--max_eval_samples", "200"]
    run_tagging.main([*argv, "--num_train_epochs", "8", "--learning_rate", "0.01"])
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert results["source"] > 95
    assert results["bs"] > 95


def test_the_model_of_the_first_seed_loads_with_its_labels(checkpoint, tmp_path):
    argv = ["--model_name_or_path", checkpoint, "--output_dir", str(tmp_path / "run"), *FAST]
    run_tagging.main([*argv, "--task_name", "ner", "--skip_supervised"])
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "run")
    assert "B-PER" in model.config.label2id
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert results["bs"] is results["transfer_gap"] is None


def test_same_seed_same_scores_and_kept_seeds_are_not_run_again(checkpoint, tmp_path):
    scores = []
    for name in ("a", "b"):
        argv = ["--model_name_or_path", checkpoint, "--output_dir", str(tmp_path / name), *FAST]
        run_tagging.main([*argv, "--task_name", "pos", "--skip_supervised"])
        scores.append(json.loads((tmp_path / name / "all_results.json").read_text())["bz"])
    assert scores[0] == scores[1]
    (tmp_path / "a" / "all_results.json").unlink()
    kept = tmp_path / "a" / "scores-original-0.json"
    data = json.loads(kept.read_text())
    data["bz"]["accuracy"] = 12.5
    write_json(kept, data)
    argv = ["--model_name_or_path", checkpoint, "--output_dir", str(tmp_path / "a"), *FAST]
    run_tagging.main([*argv, "--task_name", "pos", "--skip_supervised"])
    assert json.loads((tmp_path / "a" / "all_results.json").read_text())["bz"] == 12.5


def test_a_run_that_is_replaced_leaves_no_scores_behind(checkpoint, tmp_path):
    argv = ["--model_name_or_path", checkpoint, "--output_dir", str(tmp_path / "run"), *FAST]
    argv += ["--task_name", "pos", "--skip_supervised"]
    run_tagging.main(argv)
    kept = tmp_path / "run" / "scores-original-0.json"
    data = json.loads(kept.read_text())
    write_json(kept, data | {"bz": data["bz"] | {"accuracy": 12.5}})
    run_tagging.main([*argv, "--max_train_samples", "30", "--overwrite_output_dir"])
    assert json.loads(kept.read_text())["bz"]["accuracy"] != 12.5


def test_tags_that_training_never_shows_count_as_wrong(checkpoint, tmp_path, capsys):
    train = tmp_path / "train.jsonl"
    train.write_text(json.dumps({"tokens": ["a", "the"], "tags": ["DET", "DET"]}) + "\n")
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"tokens": ["a", "dog"], "tags": ["DET", "NOUN"]}) + "\n")
    argv = ["--model_name_or_path", checkpoint, "--output_dir", str(tmp_path / "run"), *FAST]
    files = ["--train_file", str(train), "--test_file", str(test)]
    run_tagging.main([*argv, "--task_name", "pos", *files])
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert results["unseen_tags"] == {"NOUN": 1}
    assert results["source"] == results["bz"] == 50.0


def test_a_checkpoint_of_one_script_is_refused_or_doubled(tokenizer, tmp_path, capsys):
    path = make_checkpoint(tmp_path / "plain", tokenizer)
    argv = ["--model_name_or_path", path, "--output_dir", str(tmp_path / "run"), *FAST]
    argv += ["--task_name", "pos", "--skip_supervised"]
    for extra, message in (
        ([], "name the derived language with --language, or the natural language of each file"),
        (["--language", "trans"], "--double_vocabulary"),
    ):
        with pytest.raises(SystemExit) as stopped:
            run_tagging.main([*argv, *extra])
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
    run_tagging.main([*argv, "--language", "trans", "--double_vocabulary"])
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    # Embeddings are copies and `trans` keeps the order: both languages are one to the model.
    assert results["source"] == results["bz"]


def refusal(capsys, argv):
    """The one line with which a command refuses its options."""
    return refused(capsys, run_tagging.main, [*argv, "--use_cpu"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--task_name parsing", "unknown task_name 'parsing'"),
        ("--train_file nowhere.conllu", "train file and a test file"),
        ("--validation_file nowhere.conllu", "train file and a test file"),
        ("--train_file nowhere.conllu --test_file b.conllu", "nowhere.conllu: no such file"),
        ("--dataset_name a --test_file b.conllu", "files or a --dataset_name, not both"),
        ("--dataset_name=", "--dataset_name is empty"),
        ("--dataset_config_name en", "needs a --dataset_name"),
        (
            "--dataset_config_name en=en",
            "en=en: the second language is trans_inv, which is derived",
        ),
        ("--train_file en=a --test_file en=b", "en=a: the second language is trans_inv"),
        ("--train_file a b --test_file c", "has a and b for one language: give one"),
        ("--xnli_mixed --max_train_samples 9", "mixes pairs of sentences, and POS has none"),
        ("--language klingon", "unknown language 'klingon'"),
        ("--seed 3", "--seed does nothing in fine-tuning: --seeds"),
        ("--seeds 0 1 0", "--seeds names a seed twice"),
        ("--seeds -1", "seeds must lie between 0 and"),
        ("--max_seq_length 2", "max_seq_length must be at least 3, not 2"),
        ("--max_seq_length 33", "--max_seq_length is more than the model's 32 positions"),
        ("--max_train_samples 0", "max_train_samples must be at least 1, not 0"),
        ("--max_eval_samples -5", "max_eval_samples must be at least 1, not -5"),
        ("--resume_from_checkpoint here", "--resume_from_checkpoint does nothing here"),
        ("--label_names label", "--label_names: a task has its own"),
        ("--metric_for_best_model accuracy", "--metric_for_best_model: eval_loss is the only"),
        ("--load_best_model_at_end", "--load_best_model_at_end needs an --eval_strategy"),
    ],
)
def test_mistakes_are_one_line(checkpoint, tmp_path, capsys, options, message):
    argv = ["--model_name_or_path", checkpoint, "--output_dir", str(tmp_path / "run")]
    assert message in refusal(capsys, [*argv, "--task_name", "pos", *options.split()])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", [".", "..", "run"])
def test_the_checkpoint_is_not_overwritten(checkpoint, tmp_path, capsys, place):
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    before = sorted(folder.rglob("*"))
    argv = ["--model_name_or_path", str(folder), "--output_dir", str(folder / place)]
    error = refusal(capsys, [*argv, "--task_name", "pos", "--overwrite_output_dir"])
    assert "--overwrite_output_dir could remove" in error
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("config.json", text)
            for text in ("{", "[]", "{}", '{"model_type": "bert", "hidden_size": "x"}')
        ),
        *(
            ("config.json", text)
            for text in ('{"model_type": "bert", "max_position_embeddings": 0}',)
        ),
        *(("all_results.json", text) for text in ("{", "[]")),
        *(("tokenizer.json", text) for text in ("{", "[]", '{"model": {}}')),
        ("tokenizer_config.json", '{"model_input_names": ["token_type_ids"]}'),
        *(("language.json", text) for text in ("{", '{"name": "klingon"}')),
        *(("model.safetensors", text) for text in ("", "{", "x" * 100)),
    ],
)
def test_a_damaged_file_of_the_checkpoint_is_named(checkpoint, tmp_path, capsys, name, text):
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    (folder / name).write_text(text)
    argv = ["--model_name_or_path", str(folder), "--output_dir", str(tmp_path / "run"), *FAST]
    assert name in refusal(capsys, [*argv, "--task_name", "pos"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", ["one tensor less", "another model's"])
def test_a_checkpoint_that_does_not_load_whole_is_refused(checkpoint, tmp_path, capsys, change):
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    tensors = load_file(folder / "model.safetensors")
    if change == "one tensor less":
        del tensors["bert.encoder.layer.0.output.dense.weight"]
    else:
        tensors = {f"electra.{name}": tensor for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    argv = ["--model_name_or_path", str(folder), "--output_dir", str(tmp_path / "run"), *FAST]
    assert "is no whole checkpoint" in refusal(capsys, [*argv, "--task_name", "ner"])
    assert not (tmp_path / "run").exists()


def test_a_second_command_in_the_same_folder_is_refused(checkpoint, tmp_path, capsys):
    argv = ["--model_name_or_path", checkpoint, "--output_dir", str(tmp_path / "run"), *FAST]
    with exclusive(tmp_path / "run"):
        error = refusal(capsys, [*argv, "--task_name", "pos"])
    assert "run is in use by another command" in error


def test_rows_without_a_label_are_counted_and_a_bad_one_stops_before_training(
    checkpoint, tmp_path, capsys
):
    def write(name, labels):
        rows = [{"premise": "a dog", "hypothesis": "the dog", "label": label} for label in labels]
        path = tmp_path / name
        path.write_text("\n".join(map(json.dumps, rows)))
        return str(path)

    train = write("train.jsonl", [0, 1, 2] * 9 + [0, -1, 1])
    argv = ["--model_name_or_path", checkpoint, "--output_dir", str(tmp_path / "run"), *FAST]
    argv += ["--skip_supervised", "--train_file", train, "--test_file"]
    with pytest.raises(SystemExit) as stopped:
        finetuning.main([*argv, write("bad.jsonl", [1, 7])], "nli")
    assert stopped.value.code == 2
    assert "bad.jsonl, test row 2: label 7 is not one of" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    strategy = ["--eval_strategy", "epoch"]
    with pytest.raises(SystemExit):
        finetuning.main([*argv, write("test.jsonl", [1, 2]), *strategy], "nli")
    assert "--eval_strategy needs a validation set" in capsys.readouterr().err
    finetuning.main([*argv, write("test.jsonl", [1, 2])], "nli")
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert (results["n_train"], results["skipped_rows"]) == (29, 1)


def test_options_of_the_library_work(checkpoint, tmp_path):
    argv = ["--model_name_or_path", checkpoint, *FAST, "--task_name", "pos"]
    argv += ["--per_device_train_batch_size", "10", "--per_device_eval_batch_size", "7"]
    more = "--prediction_loss_only --eval_do_concat_batches False"
    for name, options in (("plain", []), ("same", more.split())):
        run_tagging.main([*argv, "--output_dir", str(tmp_path / name), *options])
    plain, same = (
        json.loads((tmp_path / name / "all_results.json").read_text()) for name in ("plain", "same")
    )
    assert plain["source_by_seed"] == same["source_by_seed"]
    assert plain["bs_validation_macro_f1"] == same["bs_validation_macro_f1"]
    best = "--eval_strategy epoch --save_strategy epoch --load_best_model_at_end"
    best += " --dataloader_drop_last --label_smoothing_factor 0.1"
    best += " --num_train_epochs 2 --learning_rate 0.01"
    run_tagging.main([*argv, "--output_dir", str(tmp_path / "best"), *best.split()])
    for name in ("original", "derived"):
        folder = tmp_path / "best" / f"checkpoints-{name}-0"
        state = json.loads((folder / "checkpoint-12" / "trainer_state.json").read_text())
        losses = [line["eval_loss"] for line in state["log_history"] if "eval_loss" in line]
        assert len(losses) == 2
        assert state["best_metric"] == min(losses)


def test_scores_outlive_what_fails_after_them(checkpoint, tmp_path, monkeypatch):
    argv = ["--model_name_or_path", checkpoint, "--output_dir", str(tmp_path / "run"), *FAST]
    argv += ["--task_name", "ner", "--skip_supervised"]

    def fail(*args, **kwargs):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save_model", fail)
        with pytest.raises((OSError, SystemExit)):
            run_tagging.main(argv)
    scores = (tmp_path / "run" / "scores-original-0.json").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(verbs, "print", fail, raising=False)
        with pytest.raises((OSError, SystemExit)):
            run_tagging.main(argv)
    assert (tmp_path / "run" / "scores-original-0.json").read_text() == scores
    assert (tmp_path / "run" / "all_results.json").exists()
    assert AutoModelForTokenClassification.from_pretrained(tmp_path / "run").config.id2label


def test_scoring_writes_nothing(monkeypatch):
    tags = [["B-PER", "O"], ["O"]]
    for module in (builtins, io, os):
        monkeypatch.setattr(module, "open", None)
    for task, rows in (("pos", tags), ("ner", tags), ("nli", [["neutral"], ["entailment"]])):
        assert TASKS[task].score(rows, rows)[TASKS[task].metric] == 100.0


@pytest.mark.parametrize("command", ["tag", "nli"])
def test_help_wants_no_checkpoint_and_shows_ours_first(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        finetuning.main(["--help"], command)
    assert not stopped.value.code
    out = capsys.readouterr().out
    options = ["--model_name_or_path", "--double_vocabulary", "--learning_rate"]
    places = [out.index(f"\n  {name}") for name in options]
    assert places == sorted(places)


def test_without_a_checkpoint_the_option_is_named(capsys):
    with pytest.raises(SystemExit) as stopped:
        finetuning.main(["--task_name", "pos"], "tag")
    assert stopped.value.code == 2
    assert "name a checkpoint with --model_name_or_path" in capsys.readouterr().err
    error = refusal(capsys, ["--model_name_or_path", "nowhere", "--task_name", "pos"])
    assert "--model_name_or_path nowhere" in error


def test_an_empty_task_is_not_the_commands_own(checkpoint, capsys):
    with pytest.raises(SystemExit):
        finetuning.main(["--model_name_or_path", checkpoint, "--task_name", ""], "nli")
    assert "--task_name is empty" in capsys.readouterr().err


def test_a_run_to_push_gives_its_arguments(checkpoint, tmp_path):
    argv = ["--model_name_or_path", checkpoint, "--output_dir", str(tmp_path / "run"), *FAST]
    argv += ["--max_train_samples", "8", "--max_eval_samples", "4", "--skip_supervised"]
    pushed = [*argv, "--push_to_hub", "--hub_model_id", "me/run"]
    args = finetuning.main(pushed, "nli")
    assert (args.hub_model_id, args.output_dir) == ("me/run", str(tmp_path / "run"))
    assert finetuning.main([*argv, "--overwrite_output_dir", "--seeds", "1"], "nli") is None

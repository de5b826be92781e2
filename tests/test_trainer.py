"""The trainer: a gradient that does not depend on how a batch is cut, and every part reported."""

import json
import logging
import math
from pathlib import Path

import backbones
import gradient_driver
import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from torch.utils.data import default_collate
from transformers import (
    AutoModelForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    FNetConfig,
    Trainer,
)

import run_pretraining
from hf_alignmlm.alignment import words
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.data.encoding import tokenize_corpus
from hf_alignmlm.data.packing import EpochDataset, pack
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.models.backbones import BertForAlignedMaskedLM
from hf_alignmlm.objectives import Objective, ObjectiveCollator
from hf_alignmlm.runs import MANIFEST_FILE, last_whole_checkpoint
from hf_alignmlm.trainer import AlignMLMTrainer, AlignMLMTrainingArguments

PARTS = ("loss", "mlm_loss", "alignment_loss")


def arguments(folder, **options):
    defaults = {
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_steps": 1,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
    }
    return AlignMLMTrainingArguments(output_dir=str(folder), **defaults | options)


def by_hand(model, rows):
    """Sum of the token losses and their number, from full logits, row by row."""
    model.eval()
    total, count = 0.0, 0
    for row in rows:
        with torch.no_grad():
            logits = model(row["input_ids"][None], row["attention_mask"][None]).logits[0]
        total += F.cross_entropy(logits.double(), row["labels"], reduction="sum").item()
        count += row["labels"].ne(-100).sum().item()
    return total, count


@pytest.fixture(scope="module")
def one_batch():
    """The gradient of the whole batch, without any trainer."""
    model = gradient_driver.make_model().train()
    output = model(**default_collate(gradient_driver.make_rows()))
    output.loss.backward()
    return {
        "gradients": {n: p.grad for n, p in model.named_parameters()},
        "logged": {name: output[name].item() for name in PARTS},
    }


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_process")
    cases = [(16, 1), (4, 4), (4, 4, 9)]
    return {case: gradient_driver.one_step(folder, *case[:2], "bert", *case[2:]) for case in cases}


@pytest.fixture(scope="module")
def two_processes(cut_batches):
    cases = {(8, 1): "8,1,bert", (2, 4): "2,4,bert", (2, 4, 9): "2,4,bert,9"}
    return {case: cut_batches[name] for case, name in cases.items()}


def relative_difference(left, right):
    assert left.keys() == right.keys()
    difference = torch.stack([(left[name] - right[name]).norm() for name in left]).norm()
    return (difference / torch.stack([value.norm() for value in left.values()]).norm()).item()


# --- one gradient, however the batch is cut -------------------------------------------------------


@pytest.mark.parametrize("case", [(16, 1), (4, 4)], ids=["whole", "accumulation 4"])
def test_gradient_of_one_process_is_that_of_one_big_batch(case, one_batch, one_process):
    found = one_process[case]["gradients"]
    assert relative_difference(one_batch["gradients"], found) < 1e-5


@pytest.mark.parametrize("case", [(8, 1), (2, 4)], ids=["2 processes", "2, accumulation 4"])
def test_gradient_of_two_processes_is_that_of_one_big_batch(case, one_batch, two_processes):
    assert two_processes[case]["processes"] == 2
    found = two_processes[case]["gradients"]
    assert relative_difference(one_batch["gradients"], found) < 1e-5


def test_a_sample_of_the_pairs_is_one_draw_however_the_batch_is_cut(one_process, two_processes):
    model = gradient_driver.make_model("bert", 9).train()
    model.alignment_loss.draw(42, 0)  # the library's default seed, the first step
    model(**default_collate(gradient_driver.make_rows())).loss.backward()
    whole = {n: p.grad for n, p in model.named_parameters()}
    for found in (one_process[4, 4, 9], two_processes[2, 4, 9]):
        assert relative_difference(whole, found["gradients"]) < 1e-5
    model.zero_grad()
    model.alignment_loss.draw(42, 1)
    model(**default_collate(gradient_driver.make_rows())).loss.backward()
    other = {n: p.grad for n, p in model.named_parameters()}
    assert relative_difference(other, one_process[4, 4, 9]["gradients"]) > 1e-3


def test_the_cut_would_show_if_it_were_weighed_wrongly(one_batch):
    # The mean of the means of four rows each: what stock BERT and plain accumulation give.
    model, rows = gradient_driver.make_model().train(), gradient_driver.make_rows()
    for start in range(0, 16, 4):
        (model(**default_collate(rows[start : start + 4])).loss / 4).backward()
    wrong = {n: p.grad for n, p in model.named_parameters()}
    assert relative_difference(one_batch["gradients"], wrong) > 1e-3


def test_parts_of_the_loss_are_logged_alike_however_the_batch_is_cut(
    one_batch, one_process, two_processes
):
    whole = [one_process[case] for case in ((16, 1), (4, 4))]
    for result in [*whole, two_processes[8, 1], two_processes[2, 4]]:
        for name in PARTS:
            assert result["logged"][name] == pytest.approx(one_batch["logged"][name], rel=1e-4)


def test_two_processes_evaluate_to_the_same_figures(one_process, two_processes):
    expected = one_process[16, 1]["evaluation"]
    timing = ("runtime", "per_second", "preparation_time")
    names = [name for name in expected if not name.endswith(timing)]
    assert {"eval_original_mlm_loss", "eval_derived_perplexity", "eval_alignment_p1"} <= {*names}
    for result in (two_processes[8, 1], two_processes[2, 4]):
        for name in names:
            assert result["evaluation"][name] == pytest.approx(expected[name], rel=1e-5), name


# --- what is logged -------------------------------------------------------------------------------


def test_the_logged_loss_is_the_combination_of_the_logged_parts(tmp_path):
    # Three steps a line: rows of different numbers of labels, hence steps of different weights.
    trainer = AlignMLMTrainer(
        gradient_driver.make_model(),
        arguments(tmp_path, max_steps=6, logging_steps=3, gradient_accumulation_steps=2),
        train_dataset=gradient_driver.make_rows(),
    )
    trainer.train()
    lines = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [line["step"] for line in lines] == [3, 6]
    for line in lines:
        together = line["mlm_loss"] + 10.0 * line["alignment_loss"]
        assert line["loss"] == pytest.approx(together, rel=1e-4)
    assert lines[0]["alignment_loss"] != lines[1]["alignment_loss"]


def test_a_large_dictionary_is_sampled_in_evaluation_but_not_to_follow_csls(tmp_path, monkeypatch):
    monkeypatch.setattr(words, "_MANY", 0)
    for metric, csls in ((None, False), ("alignment_csls_p1", True)):
        trainer = AlignMLMTrainer(
            gradient_driver.make_model(),
            arguments(tmp_path, metric_for_best_model=metric),
            eval_dataset=gradient_driver.make_rows(3),
        )
        assert ("eval_alignment_csls_p1" in (scores := trainer.evaluate())) == csls
        assert scores["eval_alignment_p1"] == trainer.alignment()["p1"]
        assert trainer.alignment()["csls_p1"] is not None


def test_without_a_dictionary_only_the_masked_lm_part_is_logged(tmp_path):
    model = gradient_driver.make_model()
    model.set_dictionary(None)
    trainer = AlignMLMTrainer(
        model, arguments(tmp_path, max_steps=1), train_dataset=gradient_driver.make_rows()
    )
    trainer.train()
    line = trainer.state.log_history[0]
    assert line["mlm_loss"] == pytest.approx(line["loss"], rel=1e-4)
    assert "alignment_loss" not in line
    assert trainer.alignment() == {}


@pytest.mark.parametrize("eval_batch", [2, 3, 11])
def test_perplexity_is_of_the_whole_set_and_of_the_masked_lm_part_alone(tmp_path, eval_batch):
    sets = {
        "original": gradient_driver.make_rows(11, seed=2),
        "derived": gradient_driver.make_rows(5, seed=3),
    }
    trainer = AlignMLMTrainer(
        gradient_driver.make_model(),
        arguments(tmp_path, per_device_eval_batch_size=eval_batch),
        eval_dataset=sets,
    )
    metrics = trainer.evaluate()
    alignment = trainer.model.compute_alignment_loss().item()
    assert alignment != pytest.approx(0, abs=1e-3)
    for name, rows in sets.items():
        total, count = by_hand(trainer.model, rows)
        assert metrics[f"eval_{name}_mlm_loss"] == pytest.approx(total / count, rel=1e-5)
        expected = math.exp(total / count)
        assert metrics[f"eval_{name}_perplexity"] == pytest.approx(expected, rel=1e-4)
        # The alignment term is no part of it, or its exponential would be no perplexity.
        assert metrics[f"eval_{name}_loss"] == metrics[f"eval_{name}_mlm_loss"]
    mean = (metrics["eval_original_loss"] + metrics["eval_derived_loss"]) / 2
    assert metrics["eval_loss"] == pytest.approx(mean)
    # The sets do differ, and so would the mean of the rows' means.
    assert metrics["eval_original_mlm_loss"] != pytest.approx(metrics["eval_derived_mlm_loss"])


def test_evaluation_amid_training_leaves_the_training_means_alone(tmp_path):
    def losses(**options):
        trainer = AlignMLMTrainer(
            gradient_driver.make_model(),
            arguments(tmp_path, logging_steps=2, **options),
            train_dataset=gradient_driver.make_rows(),
            eval_dataset=gradient_driver.make_rows(3, seed=2),
        )
        trainer.train()
        return [
            [entry[name] for name in PARTS]
            for entry in trainer.state.log_history
            if "mlm_loss" in entry
        ]

    assert losses() == losses(eval_strategy="steps", eval_steps=1)


def test_alignment_is_evaluated_once_whatever_the_number_of_sets(tmp_path):
    trainer = AlignMLMTrainer(
        gradient_driver.make_model(),
        arguments(tmp_path),
        eval_dataset={name: gradient_driver.make_rows(2) for name in ("original", "derived")},
    )
    metrics = trainer.evaluate()
    assert metrics["eval_alignment_p1"] == trainer.alignment()["p1"]
    assert {"eval_alignment_p1_seen", "eval_alignment_p1_heldout"} <= metrics.keys()
    assert not any("original_alignment" in name for name in metrics)


def test_predictions_are_the_logits_alone(tmp_path):
    trainer = AlignMLMTrainer(gradient_driver.make_model(), arguments(tmp_path))
    output = trainer.predict(gradient_driver.make_rows(3))
    assert output.predictions.shape == (3, 12, 60)
    assert "test_mlm_loss" in output.metrics


def test_tokens_are_counted_without_padding_even_under_a_mask_of_four_dimensions(
    tmp_path, tokenizer
):
    rows = gradient_driver.make_rows(4)
    for row in rows:
        row["input_ids"] = row["input_ids"].clone()
        row["input_ids"][9:] = tokenizer.pad_token_id
        row["labels"][9:] = -100
        row["labels"][0] = 7
        row["attention_mask"] = torch.ones(1, 12, 12, dtype=torch.bool)
    trainer = AlignMLMTrainer(
        gradient_driver.make_model(),
        arguments(tmp_path, max_steps=2),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    trainer.train()
    assert trainer.state.num_input_tokens_seen == 2 * 2 * 9


@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("strategy", ["steps", "best"])
def test_the_best_model_and_the_plateau_follow_the_masked_lm(tmp_path, sets, strategy):
    rows = gradient_driver.make_rows(3, seed=2)
    trainer = AlignMLMTrainer(
        gradient_driver.make_model(),
        arguments(
            tmp_path,
            save_strategy=strategy,
            eval_strategy="steps",
            **dict.fromkeys(("save_steps", "eval_steps"), 2),
            load_best_model_at_end=True,
            lr_scheduler_type="reduce_lr_on_plateau",
        ),
        train_dataset=gradient_driver.make_rows(),
        eval_dataset=rows if sets == 1 else {"original": rows, "derived": rows},
    )
    trainer.train()
    losses = [e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e]
    assert min(losses) > 0  # with the alignment term it would not be
    assert trainer.state.best_metric == pytest.approx(min(losses))
    # What is in the trainer at the end is the best checkpoint, which rotation has kept.
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(losses))
    assert Path(trainer.state.best_model_checkpoint).is_dir()


def test_no_warning_reaches_the_user_on_a_machine_without_accelerator(tmp_path, recwarn, caplog):
    logging.getLogger("transformers").propagate = True
    trainer = AlignMLMTrainer(
        gradient_driver.make_model(),
        arguments(tmp_path, save_strategy="steps", save_steps=1),
        train_dataset=gradient_driver.make_rows(),
    )
    trainer.train()
    said = [str(w.message) for w in recwarn] + caplog.messages
    assert not [line for line in said if "pin" in line or "mtime" in line]
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"]


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_checkpoint_holds_dictionary_and_language_and_is_sealed(tmp_path):
    trainer = AlignMLMTrainer(
        gradient_driver.make_model(),
        arguments(tmp_path, save_strategy="steps", save_steps=2),
        train_dataset=gradient_driver.make_rows(),
        language=SyntheticLanguage.from_name("trans_inv"),
    )
    trainer.train()
    checkpoint = tmp_path / "checkpoint-4"
    assert last_whole_checkpoint(tmp_path) == str(checkpoint)
    manifest = json.loads((checkpoint / MANIFEST_FILE).read_text())
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"} <= {
        *manifest
    }
    assert SyntheticLanguage.from_pretrained(checkpoint).name == "trans_inv"
    dictionary = BilingualDictionary.from_pretrained(checkpoint)
    assert dictionary == trainer.model.dictionary
    loaded = BertForAlignedMaskedLM.from_pretrained(checkpoint)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_one_checkpoint_is_enough_and_no_evaluation_set_is_needed(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    options |= {"max_steps": 3, "use_cpu": True, "report_to": "none", "disable_tqdm": True}
    trainer = AlignMLMTrainer(
        gradient_driver.make_model(),
        AlignMLMTrainingArguments(output_dir=str(tmp_path), **options),
        train_dataset=gradient_driver.make_rows(),
    )
    trainer.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-3")


@pytest.mark.parametrize(
    ("options", "more"),
    [({"label_smoothing_factor": 0.1}, {}), ({}, {"compute_loss_func": lambda *_, **__: 0})],
)
def test_a_loss_that_leaves_the_alignment_out_is_refused(tmp_path, options, more):
    with pytest.raises(ValueError, match="take the labels from the model"):
        AlignMLMTrainer(gradient_driver.make_model(), arguments(tmp_path, **options), **more)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataloader_drop_last": True}, "dataloader_drop_last would leave out rows"),
        ({"label_names": ["targets"]}, "label_names must hold labels"),
        ({"metric_for_best_model": "f1"}, "'f1': known are loss, original_loss,"),
        ({"metric_for_best_model": "mlm_loss", "save_strategy": "best"}, "'mlm_loss': known are"),
    ],
)
def test_an_option_that_would_spoil_the_run_is_refused(tmp_path, options, message):
    options = {"eval_strategy": "steps", **options}
    rows = gradient_driver.make_rows(3)
    with pytest.raises(ValueError, match=message) as error:
        AlignMLMTrainer(
            gradient_driver.make_model(),
            arguments(tmp_path, **options),
            eval_dataset={"original": rows, "derived": rows},
        )
    assert "\n" not in str(error.value)


def test_a_metric_to_follow_without_an_evaluation_set_is_refused(tmp_path):
    options = {"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 2, "eval_steps": 2}
    options = arguments(tmp_path, load_best_model_at_end=True, **options)
    with pytest.raises(ValueError, match="you didn't pass an `eval_dataset`"):
        AlignMLMTrainer(gradient_driver.make_model(), options)


@pytest.mark.parametrize(
    ("metric", "greater"),
    [("loss", False), ("eval_derived_perplexity", False), ("alignment_p1", True)],
)
def test_a_lower_loss_and_perplexity_is_better(tmp_path, metric, greater):
    assert arguments(tmp_path, metric_for_best_model=metric).greater_is_better == greater


def log_of(trainer):
    """The lines of the log, without the seconds that things took."""
    return [
        {name: value for name, value in line.items() if not name.endswith(TIMES)}
        for line in trainer.state.log_history
    ]


TIMES = ("runtime", "per_second", "preparation_time")


@pytest.mark.parametrize(
    "options",
    [
        {"logging_steps": 4, "load_best_model_at_end": True},
        {"logging_steps": 20, "lr_scheduler_type": "reduce_lr_on_plateau"},
        {"logging_steps": 3},
    ],
)
def test_a_resumed_run_logs_what_an_uninterrupted_one_logs(tmp_path, options):
    def trainer():
        return AlignMLMTrainer(
            gradient_driver.make_model(pairs_per_step=9),  # other pairs at each step
            arguments(
                tmp_path,
                **{"max_steps": 9, "eval_steps": 3, "save_steps": 3, "save_total_limit": None},
                **{"save_strategy": "steps", "eval_strategy": "steps"},
                gradient_accumulation_steps=2,
                **options,
            ),
            train_dataset=gradient_driver.make_rows(),
            eval_dataset=gradient_driver.make_rows(3, seed=2),
        )

    whole = trainer()
    result = whole.train()
    for checkpoint in sorted(tmp_path.glob("checkpoint-*")):
        resumed = trainer()
        assert (
            resumed.train(resume_from_checkpoint=str(checkpoint)).metrics["train_loss"]
            == (result.metrics["train_loss"])
        )
        assert log_of(resumed) == log_of(whole)
        assert "since_log" not in resumed.state.stateful_callbacks


def test_a_checkpoint_of_the_model_alone_is_no_place_to_go_on(tmp_path):
    def trainer():
        return AlignMLMTrainer(
            gradient_driver.make_model(),
            arguments(tmp_path, save_strategy="steps", save_steps=2, save_only_model=True),
            train_dataset=gradient_driver.make_rows(),
        )

    trainer().train()
    checkpoint = tmp_path / "checkpoint-4"
    assert BertForAlignedMaskedLM.from_pretrained(checkpoint).dictionary is not None
    assert last_whole_checkpoint(tmp_path) is None
    with pytest.raises(ValueError, match="checkpoint-4 has the model alone"):
        trainer().train(resume_from_checkpoint=str(checkpoint))


COMMAND = """
--use_cpu --disable_tqdm True --report_to none --max_train_samples 200 --max_eval_samples 40
--max_seq_length 32 --max_steps 4 --save_steps 2 --eval_steps 2
"""


def test_the_commands_best_model_is_that_of_both_languages(tmp_path):
    shape = "hidden_size=24,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32"
    command = [*COMMAND.split(), "--vocab_size", "300", "--config_overrides", shape]
    command += ["--load_best_model_at_end", "--lr_scheduler_type", "reduce_lr_on_plateau"]
    run_pretraining.main([*command, "--output_dir", str(tmp_path)])
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    results = json.loads((tmp_path / "all_results.json").read_text())
    losses = [line["eval_loss"] for line in state["log_history"] if "eval_loss" in line]
    assert state["best_metric"] == min(losses)
    both = results["eval_original_mlm_loss"] + results["eval_derived_mlm_loss"]
    assert both / 2 == pytest.approx(min(losses))


@pytest.mark.parametrize("more", [[], ["--language_embeddings", "True"]])
def test_the_command_goes_on_from_another_architecture(tmp_path, tokenizer, capsys, more):
    model = tmp_path / "distilbert"
    shape = {"vocab_size": len(tokenizer), "dim": 24, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
    DistilBertForMaskedLM(DistilBertConfig(**shape)).save_pretrained(model)
    tokenizer.save_pretrained(model)
    command = [*COMMAND.split(), "--objective", "xlm", "--model_name_or_path", str(model)]
    command += ["--output_dir", str(tmp_path / "run"), *more]
    if more:
        with pytest.raises(SystemExit):
            run_pretraining.main(command)
        error = capsys.readouterr().err.splitlines()[-1]
        assert "2 languages need as many token types, but this distilbert has 0" in error
        assert not (tmp_path / "run").exists()
        return
    run_pretraining.main(command)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["architectures"] == ["DistilBertForMaskedLM"]
    # xlm's default, where the architecture has token types.
    assert config["language_embeddings"] is False


def test_the_command_starts_another_architecture_afresh(tmp_path, caplog):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "modernbert"}))
    shape = "hidden_size=24,num_hidden_layers=2,num_attention_heads=2,intermediate_size=32"
    command = [*COMMAND.split(), "--config_name", str(tmp_path), "--vocab_size", "300"]
    logging.getLogger("transformers").propagate = True
    run_pretraining.main([*command, "--config_overrides", shape, "--output_dir", f"{tmp_path}/run"])
    assert not [line for line in caplog.messages if "token_id" in line]
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "run")
    assert type(model).__name__ == "ModernBertForMaskedLM"
    assert model.config.alignment_loss_weight == 10


def test_the_command_refuses_an_architecture_that_is_not_known(tmp_path, tokenizer, capsys):
    FNetConfig().save_pretrained(tmp_path / "fnet")
    tokenizer.save_pretrained(tmp_path / "fnet")
    command = [*COMMAND.split(), "--model_name_or_path", str(tmp_path / "fnet")]
    with pytest.raises(SystemExit):
        run_pretraining.main([*command, "--output_dir", str(tmp_path / "run")])
    error = capsys.readouterr().err.splitlines()[-1]
    assert "no alignment for a model of type 'fnet': known are bert, roberta" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_the_collators_columns_stay_and_evaluation_masks_do_not_change(
    tmp_path, doubled, embedded, workers
):
    tokenizer, language = doubled
    corpus = Dataset.from_list([{"words": s.words} for s in embedded[:40]])
    packed = pack(tokenize_corpus(corpus, tokenizer, language), tokenizer, max_seq_length=12)
    trainer = AlignMLMTrainer(
        BertForAlignedMaskedLM(backbones.config("bert", vocab_size=len(tokenizer))),
        arguments(
            tmp_path,
            max_steps=1,
            remove_unused_columns=True,
            dataloader_num_workers=workers,
            dataloader_persistent_workers=bool(workers),
        ),
        ObjectiveCollator(tokenizer, Objective.from_name("mlm"), 12),
        EpochDataset(packed),
        {"original": EpochDataset(packed.select(range(20)))},
    )
    trainer.train()
    first, second = (trainer.evaluate()["eval_loss"] for _ in range(2))
    assert first == second


def test_it_is_the_librarys_trainer_still():
    assert issubclass(AlignMLMTrainer, Trainer)
    assert AlignMLMTrainer.__name__ != Trainer.__name__


def test_without_a_compiler_training_runs_uncompiled_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("hf_alignmlm"), "propagate", True)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not arguments(tmp_path / "run", torch_compile=True).torch_compile
    assert [r.getMessage() for r in caplog.records] == [
        "There is no C++ compiler for torch.compile: training runs uncompiled"
    ]


def test_no_file_holds_the_token(tmp_path):
    trainer = AlignMLMTrainer(
        gradient_driver.make_model(),
        arguments(tmp_path, save_strategy="steps", save_steps=2, hub_token="hf_secret"),
        train_dataset=gradient_driver.make_rows(),
    )
    trainer.train()
    trainer.save_model()
    assert trainer.args.hub_token == "hf_secret"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path / "training_args.bin" in files
    assert not [path for path in files if b"hf_secret" in path.read_bytes()]

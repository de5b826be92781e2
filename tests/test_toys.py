"""A toy of each kind, a file each, from the command line to card and report.

The toys are a package of their own, known by its entry points: what a user of the library writes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_dataset

ROOT = Path(__file__).resolve().parent.parent
TINY = "--use_cpu --disable_tqdm True --max_steps 3"
COMMANDS = f"""
pretrain --objective toy-mlm --keep_share 0.25 --alignment_loss_type toy-distance
  --alignment_loss_weight 1 --language trans_toyswap --max_train_samples 300 --max_eval_samples 50
  --config_name albert --config_overrides num_hidden_layers=1,hidden_size=24,num_attention_heads=2
  --vocab_size 300 --output_dir runs/toy --logging_steps 1 {TINY}
tag --task_name toy-capitals --model_name_or_path runs/toy --max_train_samples 60
  --max_eval_samples 30 --output_dir runs/capitals {TINY}
tag --task_name toy-sentences --model_name_or_path runs/toy --max_train_samples 60
  --max_eval_samples 30 --output_dir runs/sentences {TINY}
corpus --task_name toy-capitals --language trans_toyswap --max_samples 20 --output_dir twins
card runs/toy --transfer runs
card runs/capitals
card runs/sentences
report runs
"""
DRIVER = """
import json, sys
from hf_alignmlm.cli import main
for command in json.loads(sys.argv[1]):
    main(command)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    config = {"model_type": "albert", "embedding_size": 16, "intermediate_size": 32}
    (folder / "albert").mkdir()
    (folder / "albert" / "config.json").write_text(json.dumps(config))
    commands = [line.split() for line in COMMANDS.replace("\n  ", " ").strip().splitlines()]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "toys")])
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(commands)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return folder


def read(path):
    return path.read_text(encoding="utf-8")


def test_the_objective_trains_with_its_option_and_is_cited(folder):
    results = json.loads(read(folder / "runs/toy/all_results.json"))
    assert results["objective"] == "toy-mlm"
    assert results["arguments"]["keep_share"] == 0.25
    card = read(folder / "runs/toy/README.md")
    assert "masked language modelling with answers in sight (a toy)" in card
    assert "@misc{toy2026objective" in card


def test_the_backbone_trains_and_is_plain(folder):
    config = json.loads(read(folder / "runs/toy/config.json"))
    assert config["architectures"] == ["AlbertForMaskedLM"]
    assert config["hidden_size"] == 24


def test_the_alignment_loss_trains_and_is_cited(folder):
    log = json.loads(read(folder / "runs/toy/trainer_state.json"))["log_history"]
    losses = [line["alignment_loss"] for line in log if "alignment_loss" in line]
    assert losses
    assert min(losses) > 0  # a squared distance; the cosine's would be below 0 as often as above
    assert "@misc{toy2026loss" in read(folder / "runs/toy/README.md")


def test_the_order_derives_and_is_described(folder):
    language = json.loads(read(folder / "runs/toy/language.json"))
    assert language["name"] == "trans_toyswap"
    assert "neighbouring words in each other's place" in read(folder / "runs/toy/README.md")


def test_the_task_is_scored_built_and_reported(folder):
    results = json.loads(read(folder / "runs/capitals/all_results.json"))
    assert results["task"] == "toy-capitals"
    assert 0 <= results["bz"] <= 100
    assert "Capitals" in read(folder / "runs/capitals/README.md")
    row = load_dataset(str(folder / "twins"), "trans_toyswap", split="train")[0]
    swapped = [i for a in range(0, len(row["capitals"]), 2) for i in (a + 1, a)]
    swapped = [i for i in swapped if i < len(row["capitals"])]
    assert row["derived_capitals"] == [row["capitals"][i] for i in swapped]


def test_the_metric_is_the_headline(folder):
    results = json.loads(read(folder / "runs/sentences/all_results.json"))
    assert results["metric"] == "exact_match"
    assert results["source"] == results["source_exact_match"] <= results["source_near_match"]
    assert "exact_match" in read(folder / "runs/sentences/README.md")


def test_the_report_has_them_all(folder):
    report = read(folder / "runs/transfer.md")
    for name in ("toy-mlm", "trans_toyswap", "Capitals", "POS, whole sentences"):
        assert name in report
    for picture in ("transfer.png", "pretraining_loss.png"):
        assert (folder / "runs" / picture).stat().st_size > 10_000

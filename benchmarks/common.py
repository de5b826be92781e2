"""What the measurements share: the machine, processes, text, and the trainers to be compared."""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging

from hf_alignmlm import SyntheticLanguage, double_tokenizer, train_tokenizer
from hf_alignmlm.arguments import versions
from hf_alignmlm.pretraining.inputs import load, pack, tokenize
from hf_alignmlm.pretraining.model import build_model
from hf_alignmlm.pretraining.run import Run, check
from hf_alignmlm.pretraining.verbs import build
from hf_alignmlm.sizes import SIZES

ROOT = Path(__file__).parent.parent
BATCH = {"mini": 32, "paper": 4}
ON_CPU = not torch.cuda.is_available()
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# What stock is trained with too.
SHARED_OPTIONS = (
    *("output_dir", "per_device_train_batch_size", "max_steps", "learning_rate", "adam_beta2"),
    *("weight_decay", "bf16", "use_cpu", "logging_steps", "disable_tqdm"),
)


def machine() -> dict[str, Any]:
    """The processor and the versions that a figure belongs to."""
    lines = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in lines.splitlines() if "model name" in line]
    return {
        "processor": names[0] if names else platform.processor(),
        "bf16": [flag for flag in ("avx512_bf16", "amx_bf16") if flag in lines],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "gpu": None if ON_CPU else torch.cuda.get_device_name(),
        **versions(),
    }


def peak_mib() -> float:
    """Peak resident memory of this process; Linux counts it in KiB, macOS in bytes."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def apart(*words: Any, folder: Path = ROOT) -> Any:
    """The JSON that `python -m …` prints last, in a process of its own; of `folder`'s version."""
    command = [sys.executable, "-m", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stdout[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def command_line(*parts: Callable[..., Any]) -> None:
    """Call one of these functions by its name, with the options that are given; print JSON."""
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    parser.add_argument("part", choices=[part.__name__ for part in parts])
    for name, kind in (("text", Path), ("size", str), ("side", str), ("steps", int)):
        parser.add_argument(f"--{name}", type=kind)
    for flag in ("--fp32", "--moved"):
        parser.add_argument(flag, action="store_true")
    options = vars(parser.parse_args())
    chosen = {part.__name__: part for part in parts}[options.pop("part")]
    # No progress bars and no warnings beside the figures.
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    print(json.dumps(chosen(**options)))


def write_text(path: Path, megabytes: float) -> None:
    """Lines of four sentences of made-up words, Zipfian: a text of any size, without a network."""
    rng = np.random.default_rng(0)
    parts = rng.choice(list("eeeettaaooiinnsshhrdlucmfwypvbgk"), size=(60_000, 10))
    words = np.array(["".join(part[: 2 + i % 9]) for i, part in enumerate(parts)])
    shares = 1 / np.arange(3, len(words) + 3)
    with path.open("w") as stream:
        while stream.tell() < megabytes * 1e6:
            drawn = rng.choice(words, size=80_000, p=shares / shares.sum())
            split = np.split(drawn, np.sort(rng.choice(80_000, 4_000, replace=False)))
            sentences = [f"{' '.join(s[:4])}, {' '.join(s[4:])}.".capitalize() for s in split]
            stream.writelines(" ".join(sentences[i : i + 4]) + "\n" for i in range(0, 4_000, 4))


def first_lines(path: Path, megabytes: float) -> list[str]:
    """The lines of a text's first megabytes, empty ones aside."""
    with path.open() as stream:
        return [line for line in stream.read(int(megabytes * 1e6)).splitlines() if line.strip()]


def tokenizer_folder(size: str, text: Path) -> Path:
    """The folder of a size's doubled tokenizer and language, made of the text once."""
    folder = text.parent / f"tokenizer-{size}"
    if not folder.exists():
        tokenizer = train_tokenizer(first_lines(text, 30), SIZES[size].vocab_size)
        for part in double_tokenizer(tokenizer, SyntheticLanguage.from_name("trans_inv")):
            part.save_pretrained(folder)
    return folder


class StepTimer(TrainerCallback):
    """When each step ended: what lies between is a whole step, its data included."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Called by the library's loop."""
        if not ON_CPU:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def asked_run(objective: str, size: str, text: Path, steps: int, fp32: bool, log: bool) -> Run:
    """What run_pretraining.py is asked for, as its check gives it: the size's recipe, no dropout.

    Trained on the first 1.2 MB. Neither warm-up nor evaluation, which would not be measured.
    """
    folder = Path(tempfile.mkdtemp(dir=text.parent))
    (folder / "train.txt").write_text("\n".join(first_lines(text, 1.2)))
    (folder / "validation.txt").write_text("\n".join(first_lines(text, 0.01)))
    options: dict[str, Any] = {
        "objective": "mlm" if objective == "stock" else objective,
        "size": size,
        "tokenizer_name": tokenizer_folder(size, text),
        "train_file": folder / "train.txt",
        "validation_file": folder / "validation.txt",
        "output_dir": folder / "run",
        "config_overrides": ",".join(f"{name}={value}" for name, value in NO_DROPOUT.items()),
        "per_device_train_batch_size": BATCH[size],
        "max_steps": steps,
        "warmup_steps": 0,
        "logging_steps": 1 if log else steps,
        **{"seed": 0, "data_seed": 42, "bf16": not fp32, "use_cpu": ON_CPU},
        **{"save_strategy": "no", "eval_strategy": "no", "report_to": "none", "disable_tqdm": True},
    }
    if objective == "stock":
        options["isolate_sentences"] = False
    run = check([word for name, value in options.items() for word in (f"--{name}", str(value))])
    assert run, "a new folder holds no finished run"
    return run


def stock_trainer(run: Run, packed: Any) -> Trainer:
    """What the library's run_mlm.py sets up: its model, collator and trainer, on whole rows."""
    length, special = run.max_seq_length, set(run.tokenizer.all_special_ids)
    rows = packed.filter(lambda row: len(row["input_ids"]) == length).map(
        lambda row: {
            "token_type_ids": [0] * length,
            "attention_mask": [1] * length,
            "special_tokens_mask": [int(i in special) for i in row["input_ids"]],
        },
        remove_columns=["language"],
    )
    shape = {**SIZES[run.model.size].model, **NO_DROPOUT}
    shape |= {"vocab_size": len(run.tokenizer), "max_position_embeddings": length}
    options = {name: getattr(run.args, name) for name in SHARED_OPTIONS}
    args = TrainingArguments(**options, save_strategy="no", report_to="none")
    collator = DataCollatorForLanguageModeling(run.tokenizer, mlm_probability=0.15)
    return Trainer(BertForMaskedLM(BertConfig(**shape)), args, collator, rows)


class Side:
    """A trainer to be measured; `name` is `stock` or an objective.

    All have one text, model shape, batch, optimizer and precision. In stock's rows sentences run
    on, and it works out all logits; ours is what run_pretraining.py sets up.
    """

    def __init__(
        self, name: str, size: str, text: Path, *, steps: int, fp32: bool = False, log: bool = False
    ) -> None:
        run = asked_run(name, size, text, steps, fp32, log)
        train_set, evaluation = pack(run, tokenize(run, load(run)))
        if name == "stock":
            self.trainer: Any = stock_trainer(run, train_set)
            self.padding = 0.0
        else:
            self.trainer = build(run, build_model(run), train_set, evaluation)
            self.padding = run.results["padding_share"] / 100
        # Tokens of a batch that are no padding, on average.
        self.tokens = BATCH[size] * run.max_seq_length * (1 - self.padding)
        self.timer = StepTimer()
        self.trainer.add_callback(self.timer)

    def seconds(self) -> float:
        """The median step of a training run, its first two steps left out."""
        self.timer.times.clear()
        self.trainer.train()
        return float(np.median(np.diff(self.timer.times)[1:]))

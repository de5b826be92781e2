"""What the measurements share: the machine, text, tokenizers, and the trainers of either side."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

from hf_alignmlm import trainer
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.data.encoding import tokenize_corpus
from hf_alignmlm.data.packing import EpochDataset, pack
from hf_alignmlm.data.tokenizer import (
    double_tokenizer,
    load_tokenizer,
    train_tokenizer,
    vocabulary_pairs,
)
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.models.configuration import AlignedBertConfig
from hf_alignmlm.models.modeling import BertForAlignedMaskedLM
from hf_alignmlm.objectives import Objective, ObjectiveCollator
from hf_alignmlm.sizes import SIZES
from hf_alignmlm.trainer import AlignMLMTrainer, AlignMLMTrainingArguments

ROOT = Path(__file__).parent.parent
BATCH = {"mini": 32, "paper": 4}
ON_CPU = not torch.cuda.is_available()


def machine() -> dict[str, Any]:
    """The processor and the versions that a figure belongs to."""
    lines = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = next((line for line in lines.splitlines() if line.startswith("flags")), "")
    names = [line.split(":")[1].strip() for line in lines.splitlines() if "model name" in line]
    return {
        "processor": names[0] if names else platform.processor(),
        "bf16": [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "gpu": None if ON_CPU else torch.cuda.get_device_name(),
        "compiler": trainer.has_compiler(),
        "python": platform.python_version(),
        **{n: importlib.metadata.version(n) for n in ("torch", "transformers", "datasets")},
    }


def peak_mib() -> float:
    """Peak resident memory of this process; Linux counts it in KiB, macOS in bytes."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def apart(*arguments: Any, folder: Path = ROOT) -> Any:
    """The JSON that `python -m …` prints last, in a process of its own; of `folder`'s version."""
    command = [sys.executable, "-m", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stdout[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def quiet() -> None:
    """No progress bars and no warnings beside the figures."""
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()


def write_text(path: Path, megabytes: float) -> Path:
    """Lines of four sentences of made-up words, Zipfian: a text of any size, without a network."""
    rng = np.random.default_rng(0)
    parts = rng.choice(list("eeeettaaooiinnsshhrdlucmfwypvbgk"), size=(60_000, 10))
    words = np.array(["".join(part[: 2 + i % 9]) for i, part in enumerate(parts)])
    shares = 1 / np.arange(3, len(words) + 3)
    with path.open("w") as stream:
        while stream.tell() < megabytes * 1e6:
            drawn = rng.choice(words, size=80_000, p=shares / shares.sum())
            sentences = np.split(drawn, np.sort(rng.choice(80_000, 4_000, replace=False)))
            told = [f"{' '.join(s[:4])}, {' '.join(s[4:])}.".capitalize() for s in sentences]
            stream.writelines(" ".join(told[i : i + 4]) + "\n" for i in range(0, 4_000, 4))
    return path


def first_lines(path: Path, megabytes: float) -> list[str]:
    """The lines of a text's first megabytes, empty ones aside."""
    with path.open() as stream:
        return [line for line in stream.read(int(megabytes * 1e6)).splitlines() if line.strip()]


def bilingual_tokenizer(size: str, text: Path) -> tuple[Any, SyntheticLanguage]:
    """The doubled tokenizer of a size, trained on the text once and kept beside it."""
    folder = text.parent / f"tokenizer-{size}"
    if not folder.exists():
        vocabulary = SIZES[size].vocab_size
        tokenizer = train_tokenizer(first_lines(text, 30), vocabulary)
        language = SyntheticLanguage.from_name("trans_inv")
        tokenizer, language = double_tokenizer(tokenizer, language)
        tokenizer.save_pretrained(folder)
        language.save_pretrained(folder)
    return load_tokenizer(str(folder)), SyntheticLanguage.from_pretrained(folder)


class StepTimer(TrainerCallback):
    """When each step ended: what lies between is a whole step, its data included."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Called by the library's loop."""
        if not ON_CPU:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


class Side:
    """A trainer to be measured; `name` is `stock`, `stock compiled`, an objective or `… compiled`.

    All sides have one text, model shape without dropout, batch, optimizer and precision. Stock is
    what `run_mlm.py` sets up: sentences run on, all logits. Ours is as `run_pretraining.py` does.
    """

    def __init__(
        self, name: str, size: str, text: Path, *, steps: int, bf16: bool = True, log: bool = False
    ):
        self.size, self.timer = size, StepTimer()
        objective, _, compiled = name.partition(" ")
        tokenizer, language = bilingual_tokenizer(size, text)
        length, chosen = SIZES[size].max_seq_length, SIZES[size].training
        options: dict[str, Any] = {
            "output_dir": tempfile.mkdtemp(dir=text.parent),
            "per_device_train_batch_size": BATCH[size],
            "max_steps": steps,
            "bf16": bf16,
            "use_cpu": ON_CPU,
            "torch_compile": bool(compiled),
            "logging_steps": 1 if log else steps,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            **{
                n: chosen[n] for n in ("learning_rate", "adam_beta2", "weight_decay") if n in chosen
            },
        }
        shape = {
            **SIZES[size].model,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": length,
        }
        lines = first_lines(text, 1.2)
        rows = tokenize_corpus(Dataset.from_dict({"text": lines}), tokenizer, language)
        own = objective if objective != "stock" else "mlm"
        ours = Objective.from_name(
            own,
            isolate_sentences=objective != "stock" and chosen.get("isolate_sentences", False),
            language_embeddings=own == "xlm",
        )
        packed = pack(
            rows,
            tokenizer,
            max_seq_length=length,
            isolate_sentences=ours.isolate_sentences,
            pair_rate=ours.pair_rate,
        )
        set_seed(0)
        if objective == "stock":
            whole = packed.filter(lambda row: len(row["input_ids"]) == length)
            special = set(tokenizer.all_special_ids)
            train = whole.map(
                lambda row: {
                    "token_type_ids": [0] * length,
                    "attention_mask": [1] * length,
                    "special_tokens_mask": [int(i in special) for i in row["input_ids"]],
                },
                remove_columns=["language"],
            )
            collator: Any = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
            self.trainer: Any = Trainer(
                BertForMaskedLM(BertConfig(**shape)),
                TrainingArguments(**options),
                collator,
                train,
                callbacks=[self.timer],
            )
            self.padding = 0.0
            return
        self.padding = 1 - sum(map(len, packed["input_ids"])) / (len(packed) * length)
        dictionary = BilingualDictionary.from_pairs(vocabulary_pairs(tokenizer, language))
        weight = 10.0 if own == "align-mlm" else 0.0
        model = BertForAlignedMaskedLM(AlignedBertConfig(**shape, alignment_loss_weight=weight))
        model.set_dictionary(dictionary)
        self.trainer = AlignMLMTrainer(
            model,
            AlignMLMTrainingArguments(**options, eval_strategy="no"),
            ObjectiveCollator(tokenizer, ours, length, 0, dictionary),
            EpochDataset(packed),
            processing_class=tokenizer,
            callbacks=[self.timer],
        )

    def seconds(self) -> float:
        """The median step of a training run, its first two steps left out."""
        self.timer.times.clear()
        self.trainer.train()
        return float(np.median(np.diff(self.timer.times)[1:]))

    def tokens(self) -> float:
        """Tokens of a batch that are no padding, on average."""
        return BATCH[self.size] * SIZES[self.size].max_seq_length * (1 - self.padding)

    def losses(self) -> Iterator[float]:
        """What was logged at each step."""
        return (line["loss"] for line in self.trainer.state.log_history if "loss" in line)

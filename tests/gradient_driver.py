"""One training step and one evaluation with `AlignMLMTrainer`, by one process or several.

    torchrun --standalone --nproc_per_node 2 gradient_driver.py OUT \\
        MICRO_BATCH,ACCUMULATION,ARCHITECTURE[,PAIRS] …

For each way to cut the batch of 16 rows (with PAIRS, of a sample of so many pairs), OUT/CASE.pt
holds the gradient before the optimizer's step, and what was logged. The rows differ widely in their
number of labels.
"""

import os
import subprocess
import sys
from pathlib import Path

import backbones
import torch
from accelerate.state import AcceleratorState
from transformers import TrainerCallback

from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.models.backbones import AutoModelForAlignedMaskedLM
from hf_alignmlm.trainer import AlignMLMTrainer, AlignMLMTrainingArguments

HERE = Path(__file__).resolve().parent
ROWS = 16
EVALUATION_ROWS = 11  # divisible neither by the processes nor by a batch


def make_model(architecture="bert", pairs_per_step=None):
    torch.manual_seed(0)
    options = {"alignment_loss_weight": 10.0, "alignment_pairs_per_step": pairs_per_step}
    config = backbones.config(architecture, **options)
    model = AutoModelForAlignedMaskedLM.from_config(config)
    # Wide enough for the losses of rows to differ.
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.5)
    pairs = [(i, i + 30) for i in range(5, 30)] + [((6, 7), (40, 41, 42))]
    model.set_dictionary(BilingualDictionary.from_pairs(pairs, fraction=0.8))
    return model


def make_rows(count=ROWS, seed=1):
    """Row i has 1, 2, … or 11 labels: no two ways to cut a batch weigh them alike by chance."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for i in range(count):
        ids = torch.randint(5, 60, (12,), generator=generator)
        labels = torch.full_like(ids, -100)
        chosen = torch.randperm(12, generator=generator)[: 1 + i * 7 % 11]
        labels[chosen] = ids[chosen]
        rows.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    return rows


class Capture(TrainerCallback):
    """Keeps the gradient that the optimizer is about to take."""

    gradients: dict[str, torch.Tensor]

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients = {name: p.grad.clone() for name, p in model.named_parameters()}


def one_step(folder, micro_batch, accumulation, architecture="bert", pairs_per_step=None):
    """The gradient of one step, what training logged and what evaluation gave."""
    AcceleratorState._reset_state()  # the accumulation of the case before
    arguments = AlignMLMTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        per_device_eval_batch_size=2,
        max_steps=1,
        max_grad_norm=0.0,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        eval_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
    )
    capture = Capture()
    trainer = AlignMLMTrainer(
        make_model(architecture, pairs_per_step),
        arguments,
        train_dataset=make_rows(),
        eval_dataset={
            "original": make_rows(EVALUATION_ROWS, seed=2),
            "derived": make_rows(EVALUATION_ROWS - 6, seed=3),
        },
        callbacks=[capture],
    )
    trainer.train()
    return {
        "processes": arguments.world_size,
        "gradients": {n.removeprefix("module."): g for n, g in capture.gradients.items()},
        "logged": next(entry for entry in trainer.state.log_history if "loss" in entry),
        "evaluation": trainer.evaluate(),
    }


def two_processes(folder, driver, *arguments):
    """Run a driver of these tests as two processes; it writes its results into the folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(HERE / driver), str(folder), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def main(folder, *cases):
    torch.set_num_threads(1)
    for case in cases:
        micro_batch, accumulation, architecture, *pairs = case.split(",")
        sizes = int(micro_batch), int(accumulation)
        result = one_step(folder, *sizes, architecture, *map(int, pairs))
        if torch.distributed.is_initialized() and torch.distributed.get_rank():
            continue
        torch.save(result, Path(folder) / f"{case}.pt")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""`AlignMLMTrainer`: the library's, that reports each part of the loss and the alignment."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput
from transformers.utils import logging

from hf_alignmlm.alignment import dictionary_alignment
from hf_alignmlm.arguments import option
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.models.kernels import PLAIN_ATTENTION
from hf_alignmlm.models.modeling import IGNORE_INDEX, BertForAlignedMaskedLM
from hf_alignmlm.runs import seal_checkpoint

logger = logging.get_logger(__name__)


# The parts of the loss that a model may name in its output.
PARTS = ("mlm_loss", "alignment_loss")


# What is worth a line in every evaluation; the results file has all of it.
LOGGED_ALIGNMENT = ("p1", "p1_seen", "p1_heldout", "csls_p1", "cosine_true", "cosine_random")


def has_compiler() -> bool:
    """Whether there is the C++ compiler that torch.compile needs on CPUs."""
    return any(map(shutil.which, filter(None, [os.environ.get("CXX"), "g++", "clang++"])))


@dataclass
class AlignMLMTrainingArguments(TrainingArguments):
    """The library's training arguments, with defaults that suit pre-training."""

    overwrite_output_dir: bool = option(
        False, "Remove the run that lies in the output folder, if there is another one."
    )
    # The collator needs columns that the model does not take: example, epoch, language.
    remove_unused_columns: bool = field(default=False)
    eval_strategy: str = field(default="steps")
    eval_steps: float | None = field(default=0.1)
    save_steps: float = field(default=0.1)
    save_total_limit: int | None = field(default=2)
    logging_steps: float = field(default=50)
    # Every parameter takes part in every step.
    ddp_find_unused_parameters: bool | None = field(default=False)

    def __post_init__(self) -> None:
        on_cpu = self.use_cpu or not torch.cuda.is_available()
        if self.torch_compile and on_cpu and not has_compiler():
            logger.warning("There is no C++ compiler for torch.compile: training runs uncompiled")
            self.torch_compile = False
        super().__post_init__()
        # The results need the number of tokens, and a resumed run can only read it from its state.
        self.include_num_input_tokens_seen = "non_padding"
        if self.save_total_limit is not None and self.save_total_limit < 2:
            raise ValueError("save_total_limit must be at least 2: one checkpoint may be damaged")


class AlignMLMTrainer(Trainer):
    """Trains `BertForAlignedMaskedLM`, and any masked LM that names the parts of its loss.

    Logs `mlm_loss` and `alignment_loss` beside `loss`; evaluates `mlm_loss` and `perplexity` (its
    exponential, nothing else in it) of each evaluation set, and the alignment of the model's
    dictionary; saves the language beside the model.
    """

    def __init__(self, *args: Any, language: SyntheticLanguage | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.language = language
        self._own_model = isinstance(self.model, BertForAlignedMaskedLM)
        if isinstance(self.model, BertForAlignedMaskedLM) and self.args.device.type == "cpu":
            # Plain matrix products, which beat the fused kernel there (benchmarks/README.md).
            self.model.set_attn_implementation(PLAIN_ATTENTION)
        self._sums: dict[bool, dict[str, Tensor]] = {True: {}, False: {}}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss, whose parts are added up on the way, weighed as the loss weighs them."""
        if not model.training:
            # In evaluation each batch stands for itself: its mean loss, weighed by its labels.
            num_items_in_batch = None
        elif self._own_model and not return_outputs:
            inputs = {**inputs, "keep_logits": False}
        loss, outputs = super().compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        weight = inputs["labels"].ne(IGNORE_INDEX).sum().float()
        if num_items_in_batch is not None:
            weight = weight / num_items_in_batch
        sums = self._sums[model.training]
        for name in PARTS if model.training else ("loss", *PARTS):
            if (value := outputs.get(name)) is not None:
                term = torch.stack([value.detach().float() * weight, weight])
                sums[name] = sums[name] + term if name in sums else term
        return (loss, outputs) if return_outputs else loss

    def _means(self, training: bool) -> dict[str, float]:
        """The means of the parts since the last call, over all processes."""
        sums, self._sums[training] = self._sums[training], {}
        totals = {n: self.accelerator.gather(s[None]).sum(0).tolist() for n, s in sums.items()}
        return {name: total / weight for name, (total, weight) in totals.items() if weight}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the parts of the loss beside the loss."""
        if "loss" in logs:
            logs |= self._means(training=True)
        super().log(logs, start_time)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> Any:
        """Evaluate; for the loss alone, the logits of unlabelled positions are left out."""
        last = self.accelerator.gradient_state
        if last.end_of_dataloader and last.remainder > 0 and "labels" in inputs:
            # Several processes fill up the last batch with rows from the start: count none twice.
            own = last.remainder - self.args.process_index * len(inputs["labels"])
            inputs["labels"][max(0, own) :] = IGNORE_INDEX
        if prediction_loss_only:
            inputs = {**inputs, "sparse_logits": True}
        return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The library's loop, with the masked-LM loss and its perplexity among the metrics."""
        self._sums[False] = {}
        output = super().evaluation_loop(*args, **kwargs)
        metrics = output.metrics if output.metrics is not None else {}
        prefix = kwargs.get("metric_key_prefix", "eval")
        means = self._means(training=False)
        if "mlm_loss" in means:
            metrics[f"{prefix}_loss"] = means["loss"]
            metrics[f"{prefix}_mlm_loss"] = means["mlm_loss"]
            metrics[f"{prefix}_perplexity"] = math.exp(min(means["mlm_loss"], 700.0))
        return output

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate each set (a dictionary of them: by language) and, once, the alignment."""
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        if metric_key_prefix == "eval" and (alignment := self.alignment()):
            logged = {
                f"eval_alignment_{name}": value
                for name in LOGGED_ALIGNMENT
                if (value := alignment[name]) is not None
            }
            self.log(dict(logged))
            metrics |= logged
        return metrics

    def alignment(self) -> dict[str, float | None]:
        """Alignment of the input word embeddings over the dictionary, in percent; empty without."""
        model = self.accelerator.unwrap_model(self.model)
        dictionary = getattr(model, "dictionary", None)
        if dictionary is None:
            return {}
        return dictionary_alignment(model.get_input_embeddings().weight, dictionary)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # The library stops after a step alone: resumed at the last one, it would take one more.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        # Counted from the ids: the attention mask of isolated sentences has two dimensions more.
        super()._track_num_input_tokens({"input_ids": inputs["input_ids"]})

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.language is not None and self.args.should_save:
            self.language.save_pretrained(output_dir or str(self.args.output_dir))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            seal_checkpoint(Path(self._get_output_dir(trial)) / folder)

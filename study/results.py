"""The small file that a finished step leaves: enough to report from, and to go on elsewhere."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from hf_alignmlm.files import read_json, write_text
from hf_alignmlm.runs import RESULTS_FILE
from study.grid import Step
from study.parser import SCORES_FILE

# A results file has P@1 of one direction; the other measures stay in the run's own folder.
LEFT_OUT = re.compile(r"^alignment_(backward|.*(p5|p10|mrr))")
HISTORY = ("step", "mlm_loss", "alignment_loss")
HISTORY_LENGTH = 70
HEADLINE = {
    **{"alignment_p1": "P@1", "alignment_p1_heldout": "held-out P@1", "uas": "UAS"},
    **{"eval_original_perplexity": "perplexity", "source": "source", "bz": "BZ", "bs": "BS"},
    "transfer_gap": "gap",
}


def machine(jobs: int) -> dict[str, Any]:
    """What the figures of speed depend on."""
    processor, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists() and (model := re.search(r"model name\s*: (.+)", info.read_text())):
        processor = model[1]
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"processor": processor, "cores": os.cpu_count(), "gpus": gpus, "jobs": jobs}


def headline(result: dict[str, Any]) -> str:
    """The figures of a result that fit into a line."""
    shown = [f"{name} {result[k]:.1f}" for k, name in HEADLINE.items() if result.get(k) is not None]
    return ", ".join(shown) or "done"


def read_result(step: Step, folder: Path) -> dict[str, Any] | None:
    """The stored result of this very step; None where there is none, or of other arguments."""
    path = folder / f"{step.name}.json"
    result = read_json(path) if path.exists() else {}
    return result if step.made(result.get("commands", [])) else None


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    """What was asked for beside the library's defaults, free of this machine's paths."""
    library = {f.name: f.default for f in fields(TrainingArguments)}
    return {
        key: value
        for key, value in given.items()
        if value not in (None, False, "", [], library.get(key, MISSING))
        and not key.endswith(("_file", "output_dir", "model_name_or_path"))
    }


def _history(run: Path) -> list[dict[str, float]]:
    """The losses of a run, at most HISTORY_LENGTH of its log's entries."""
    log = read_json(run / "trainer_state.json")["log_history"]
    log = [{k: round(e[k], 4) for k in HISTORY if k in e} for e in log if "mlm_loss" in e]
    return log[:: -(-len(log) // HISTORY_LENGTH) or 1]


def store_result(step: Step, run: Path, folder: Path, seconds: float, jobs: int) -> dict[str, Any]:
    """Write the results file of a step that finished in its folder `run`; checkpoints go."""
    whole = read_json(run / (SCORES_FILE if step.kind == "parser" else RESULTS_FILE))
    result = {key: value for key, value in whole.items() if not LEFT_OUT.match(key)}
    result |= result.pop("scores", {})
    result["arguments"] = _arguments(result.get("arguments", {}))
    if step.kind == "pretraining":
        result["history"] = _history(run)
        for checkpoint in run.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    # A run that was finished or resumed took longer than this call.
    before = result.get("train_runtime") or 60 * result.get("cpu_minutes", 0)
    result |= {
        "name": step.name,
        "dictionary_fraction": step.dictionary_fraction,
        "machine": machine(jobs),
        "seconds": max(seconds, before),
        "commands": step.commands,
    }
    rows = (f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in result.items())
    write_text(folder / f"{step.name}.json", "{\n" + ",\n".join(rows) + "\n}\n")
    return result

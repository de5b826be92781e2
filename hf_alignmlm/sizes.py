"""Sizes: a model and the training defaults that belong to it, and what a run will cost."""

from __future__ import annotations

import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig


@dataclass(frozen=True)
class Size:
    """A model's shape, its vocabulary (before doubling), and defaults of the training arguments."""

    model: dict[str, Any]
    vocab_size: int
    max_seq_length: int
    training: dict[str, Any]
    finetuning: dict[str, Any]


SIZES = {
    name: Size(**values)
    for name, values in tomllib.loads(
        Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    ).items()
}


def size_of(config: BertConfig) -> str:
    """The size whose hidden width is nearest to this model's, to take fine-tuning defaults from."""
    return min(SIZES, key=lambda name: abs(SIZES[name].model["hidden_size"] - config.hidden_size))


def flops_per_token(config: BertConfig, length: int, mlm_probability: float = 0.15) -> float:
    """Model FLOP of one training token: layers, and the head at the predicted positions."""
    width = config.hidden_size
    layers = 6 * config.num_hidden_layers * (12 * width**2 + 2 * length * width)
    return layers + mlm_probability * 6 * (width**2 + width * config.vocab_size)


def matmul_rate(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.3) -> float:
    """Measured FLOP per second of a matrix product of 2048 × 512 × 2048 on this machine."""
    left, right = (
        torch.randn(*shape, device=device, dtype=dtype) for shape in ((2048, 512), (512, 2048))
    )
    left @ right
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        (left @ right)[0, 0].item()
        count += 1
    return count * 2 * 2048 * 512 * 2048 / (time.perf_counter() - start)


# Share of the matrix rate that whole training steps were seen to reach (benchmarks/).
EXPECTED_UTILISATION = 0.4


def expectation(
    config: BertConfig,
    parameters: int,
    *,
    length: int,
    batch_size: int,
    steps: int,
    device: torch.device,
    dtype: torch.dtype,
    processes: int = 1,
) -> str:
    """One line: parameters, tokens, memory and time to expect; `batch_size` is a process's."""
    positions = batch_size * length
    tokens = positions * steps * processes
    width, item = config.hidden_size, dtype.itemsize
    memory = 16 * parameters + positions * config.num_hidden_layers * 20 * width * item
    memory += int(0.15 * positions) * config.vocab_size * (8 + item)
    rate = EXPECTED_UTILISATION * matmul_rate(device, dtype)
    seconds = positions * steps * flops_per_token(config, length) / rate
    return (
        f"{parameters / 1e6:.1f} M parameters, {tokens / 1e6:,.1f} M tokens in {steps:,} steps; "
        f"expect about {memory / 2**30 + 0.7:.1f} GiB and {seconds / 60:,.0f} min"
    )

"""Sizes: a model and the training defaults that belong to it, and what a run will cost."""

import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, TrainingArguments


@dataclass(frozen=True)
class Size:
    """A model's shape, its vocabulary (before doubling), and defaults of the training arguments."""

    model: dict[str, Any]
    vocab_size: int
    max_seq_length: int
    training: dict[str, Any]
    finetuning: dict[str, Any]


_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
SIZES = {name: Size(**values) for name, values in _TABLE.items()}


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
    left = torch.randn(2048, 512, device=device, dtype=dtype)
    right = torch.randn(512, 2048, device=device, dtype=dtype)
    left @ right
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        (left @ right)[0, 0].item()
        count += 1
    return count * 2 * 2048 * 512 * 2048 / (time.perf_counter() - start)


# Share of the matrix rate that whole training steps were seen to reach (benchmarks/).
EXPECTED_UTILISATION = 0.4


def expectation(model: Any, args: TrainingArguments, *, length: int, steps: int) -> str:
    """One line: parameters, tokens, memory and time to expect of sequences of `length` tokens."""
    config, parameters = model.config, model.num_parameters()
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    # Of one process and step.
    positions = args.train_batch_size * args.gradient_accumulation_steps * length
    memory = 16 * parameters
    memory += positions * config.num_hidden_layers * 20 * config.hidden_size * dtype.itemsize
    memory += int(0.15 * positions) * config.vocab_size * (8 + dtype.itemsize)
    rate = EXPECTED_UTILISATION * matmul_rate(args.device, dtype)
    seconds = positions * steps * flops_per_token(config, length) / rate
    return (
        f"{parameters / 1e6:.1f} M parameters, {positions * steps * args.world_size / 1e6:,.1f} M "
        f"tokens in {steps:,} steps; expect about {memory / 2**30 + 0.7:.1f} GiB and "
        f"{max(1, seconds / 60):,.0f} min"
    )

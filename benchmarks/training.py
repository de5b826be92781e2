"""Training beside stock: `python -m benchmarks.training PART --text TEXT …` prints JSON."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import BATCH, ON_CPU, Side, command_line, peak_mib
from hf_alignmlm import AlignedBertConfig, BertForAlignedMaskedLM, BilingualDictionary
from hf_alignmlm.models.kernels import PLAIN_ATTENTION
from hf_alignmlm.sizes import SIZES, flops_per_token, matmul_rate

DEVICE = torch.device("cpu" if ON_CPU else "cuda")
SIDES = ("stock", "mlm", "xlm", "dict-mlm", "align-mlm")


def throughput(
    text: Path, size: str = "mini", rounds: int = 3, steps: int = 6, compiled: bool = False
) -> dict[str, Any]:
    """Tokens per second of all sides, in turn; ratios are medians of each round's."""
    # The library compiles all or nothing in a process.
    names = ["stock compiled", "align-mlm compiled"] if compiled else list(SIDES)
    sides = {name: Side(name, size, text, steps=steps) for name in names}
    rates: dict[str, list[float]] = {name: [] for name in names}
    matrix = []
    for _ in range(rounds):
        for name, side in sides.items():
            matrix.append(matmul_rate(DEVICE, torch.bfloat16))
            rates[name].append(side.tokens() / side.seconds())
    config = sides[names[0]].trainer.model.config
    flops = flops_per_token(config, SIZES[size].max_seq_length)

    def ratio(name: str, base: str) -> float:
        return statistics.median(a / b for a, b in zip(rates[name], rates[base], strict=True))

    medians = {name: statistics.median(measured) for name, measured in rates.items()}
    return {
        "tokens_per_second": medians,
        "rounds": rates,
        "against_stock": {name: ratio(name, names[0]) for name in names},
        "align_mlm_against_mlm": None if compiled else ratio("align-mlm", "mlm"),
        "matrix_gflops": statistics.median(matrix) / 1e9,
        "share_of_matrix_rate": {
            n: 100 * rate * flops / statistics.median(matrix) for n, rate in medians.items()
        },
        "padding_percent": 100 * sides[names[-1]].padding,
    }


def memory(text: Path, size: str = "mini", side: str = "align-mlm") -> dict[str, float]:
    """Peak MiB of this process after three steps, and before the model was made."""
    before = peak_mib()
    Side(side, size, text, steps=3).trainer.train()
    peak = peak_mib() if ON_CPU else torch.cuda.max_memory_allocated() / 2**20
    return {"before_mib": before, "peak_mib": peak}


def growth(steps: int = 6) -> dict[str, dict[str, float]]:
    """Milliseconds of a step of `mini`'s layers, by vocabulary 2V and share of the dictionary."""

    def step(vocabulary: int, share: float) -> float:
        shape = {**SIZES["mini"].model, "vocab_size": vocabulary, "max_position_embeddings": 64}
        half = vocabulary // 2
        model = BertForAlignedMaskedLM(AlignedBertConfig(**shape)).train()
        model.to(DEVICE)
        model.set_attn_implementation(PLAIN_ATTENTION if ON_CPU else "sdpa")
        pairs = [((i,), (i + half,)) for i in range(5, 5 + int(share * (half - 5)))]
        model.set_dictionary(BilingualDictionary(tuple(pairs)))
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        ids = torch.randint(5, vocabulary, (BATCH["mini"], 64), device=DEVICE)
        labels = ids.where(torch.rand(ids.shape, device=DEVICE) < 0.15, -100)
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            with torch.autocast(DEVICE.type, torch.bfloat16):
                loss = model(ids, labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            times.append(time.perf_counter() - start)
        return 1000 * statistics.median(times[1:])

    return {
        "vocabulary": {str(v): step(v, 1.0) for v in (10_000, 20_000, 40_000, 80_000)},
        "dictionary": {str(s): step(80_000, s) for s in (0.0, 0.1, 0.25, 0.5, 1.0)},
    }


def losses(
    text: Path, size: str = "mini", steps: int = 6, fp32: bool = False, moved: bool = False
) -> list[float]:
    """The loss of each step of align-mlm; another version's checkout takes the same options.

    `moved` changes the initial weights by 1e-6, to show what rounding alone does.
    """
    side = Side("align-mlm", size, text, steps=steps, fp32=fp32, log=True)
    if moved:
        # By less than bf16 can tell: what differs after that, differs by rounding.
        with torch.no_grad():
            for weight in side.trainer.model.parameters():
                weight.mul_(1 + 1e-6 * torch.randn_like(weight))
    side.trainer.train()
    return list(side.losses())


if __name__ == "__main__":
    command_line(throughput, memory, growth, losses)

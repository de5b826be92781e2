"""The examples in the documentation run as they stand."""

import re
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, BertForMaskedLM

from hf_alignmlm.models.modeling import BertForAlignedMaskedLM

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_plain_loop_trains_and_its_result_loads(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("plain_loop.md")
    assert len(code.splitlines()) <= 40
    assert "Trainer" not in code
    exec(compile(code, "plain_loop.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    losses = re.findall(r"epoch \d: mlm ([\d.]+), alignment (-?[\d.]+)", printed)
    assert len(losses) == 2
    (mlm, alignment), (later_mlm, later_alignment) = [tuple(map(float, pair)) for pair in losses]
    assert later_mlm < mlm
    assert later_alignment < alignment < 0
    stock = AutoModelForMaskedLM.from_pretrained("plain-loop").eval()
    assert type(stock) is BertForMaskedLM
    ours = BertForAlignedMaskedLM.from_pretrained("plain-loop").eval()
    assert ours.dictionary.seen
    assert ours.dictionary.heldout
    ids = torch.tensor([[2, 9, 10, 3]])
    assert torch.equal(stock(ids).logits, ours(ids).logits)

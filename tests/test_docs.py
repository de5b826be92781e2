"""The examples in the documentation run as they stand, and name no option that is not there."""

import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout, suppress
from functools import cache
from io import StringIO
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, BertForMaskedLM

from hf_alignmlm import minienglish
from hf_alignmlm.cli import main
from hf_alignmlm.models.backbones import BertForAlignedMaskedLM

ROOT = Path(__file__).parent.parent
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


# --- commands -------------------------------------------------------------------------------------

PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))),
    *(DOCS / "reproduction/README.md", ROOT / "benchmarks/README.md", ROOT / "hub_cards/README.md"),
]
SCRIPTS = {"run_pretraining.py": "pretrain", "run_tagging.py": "tag", "run_xnli.py": "nli"}


def commands(page):
    """The commands of ours on a page: which one, and the words behind it."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for kind, block in fenced if not kind for line in block.splitlines()]
    for line in lines:
        words = shlex.split(re.sub(r"\s#.*|[\[\]…]", "", line))
        for place, word in enumerate(words[:-1]):
            after = words[place + 1]
            if word in SCRIPTS:
                yield SCRIPTS[word], words[place + 1 :]
            elif word == "alignmlm" or (
                word == "-m" and after.split(".")[0] in ("study", "benchmarks")
            ):
                yield after, words[place + 2 :]


@cache
def options_of(command, *objective):
    """The options that a command's own --help lists."""
    if command.split(".")[0] in ("study", "benchmarks"):
        start = [sys.executable, "-m", command, "--help"]
        printed = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    else:
        with redirect_stdout(StringIO()) as stream, suppress(SystemExit):
            main([command, *objective, "--help"])
        printed = stream.getvalue()
    return set(re.findall(r"--[a-z_0-9]+", printed))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_in_the_documentation_exist(page):
    for command, words in commands(page):
        given = {word.partition("=")[0] for word in words if re.fullmatch(r"--[^ ]+", word)}
        objective = ("--objective", "xlm") if "xlm" in words else ()
        assert given <= options_of(command, *objective) | {"--help"}, (command, given)


TINY = "--use_cpu --disable_tqdm True --max_steps 2 --max_train_samples 150 --max_eval_samples 20"
MORE = {"pretrain": f"{TINY} --vocab_size 400", "tag": TINY, "nli": TINY, "corpus": ""}
DRIVER = """
import json, sys
from hf_alignmlm.cli import main
for command in json.loads(sys.argv[1]):
    main(command)
"""


def run_commands(folder, todo):
    """Run commands of ours one after the other in a folder, as a user's shell does."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(todo)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_readmes_commands_run_and_its_snippets_after_them(tmp_path, monkeypatch):
    text = [" ".join(s.words) for s in islice(minienglish.sentences(), 300)]
    (tmp_path / "my.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
    todo = [
        [command, *words, *MORE.get(command, "").split()]
        for command, words in commands(ROOT / "README.md")
        if not command.startswith("study") and "--dataset_name" not in words and words
    ]
    assert {command for command, *_ in todo} >= {"pretrain", "tag", "nli", "report", "corpus"}
    # After the checkpoints, the report; `pretrain` and `tag` do not come in a dictionary's order.
    run_commands(tmp_path, todo)
    monkeypatch.chdir(tmp_path)
    pages = ("README.md", "docs/pretraining.md", "docs/datasets.md")
    snippets = [code for page in pages for code in blocks(ROOT / page)]
    assert len(snippets) >= 6
    for code in snippets:
        exec(compile(code, "snippet", "exec"), {"__name__": "__main__"})


def conllu(sentences):
    """Sentences as the text of a CoNLL-U file."""
    blocks = []
    for s in sentences:
        columns = zip(s.words, s.upos, s.heads, s.deprels, strict=True)
        rows = [
            f"{n}\t{word}\t_\t{tag}\t_\t_\t{head}\t{relation}\t_\t_"
            for n, (word, tag, head, relation) in enumerate(columns, 1)
        ]
        blocks.append("\n".join(rows) + "\n\n")
    return "".join(blocks)


def test_the_way_from_two_texts_to_a_tagger_runs(tmp_path, monkeypatch):
    """docs/your_language.md: all commands but one that needs the Hub, and its snippet."""
    sentences = list(islice(minienglish.sentences(), 400))
    lines = [" ".join(s.words) for s in sentences]
    turned = {
        end: [" ".join(w[::-1] + end for w in line.split()) for line in lines] for end in "ab"
    }
    words = sorted({word for s in sentences for word in s.words})
    files = {
        "english.txt": lines[:250],
        "swahili.txt": turned["a"][150:],
        "kinyarwanda.txt": turned["b"][200:],
        "words.txt": [f"{word}\t{word[::-1]}a" for word in words],
        "words-rw.txt": [f"{word}\t{word[::-1]}b" for word in words],
        "verses.tsv": map("\t".join, zip(lines, turned["a"], strict=True)),
        "train.conllu": [conllu(sentences[:100])],
        "test.conllu": [conllu(sentences[100:150])],
    }
    for name, rows in files.items():
        (tmp_path / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    page = DOCS / "your_language.md"
    todo = [
        [command, *given, *MORE.get(command, "").split()]
        for command, given in commands(page)
        if command in ("tag", "doctor", "card") or "FacebookAI/xlm-roberta-base" not in given
    ]
    assert [command for command, *_ in todo] == [
        *("pretrain", "tag", "doctor", "card", "pretrain", "pretrain")
    ]
    run_commands(tmp_path, todo)
    assert (tmp_path / "runs/align-mlm-en-sw-rw/all_results.json").exists()
    assert (tmp_path / "runs/en-sw/doctor.md").exists()
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(page)
    space = {"__name__": "__main__"}
    exec(compile(code, "snippet", "exec"), space)
    assert {tag["entity"] for tag in space["tagger"]("Tom sees a cat.")} <= {
        tag for s in sentences for tag in s.upos
    }

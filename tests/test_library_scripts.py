"""The library's own example scripts and tests of BERT run with our model.

They are no part of an installed `transformers`: `ALIGNMLM_TRANSFORMERS` names a clone of it
(CONTRIBUTING.md). Without one, these tests are skipped.
"""

import json
import math
import os
import re
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path

import pytest
from transformers import BertConfig, BertForMaskedLM

from hf_alignmlm import minienglish
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.data.tokenizer import vocabulary_pairs

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "library_scripts.md"
OPTIONS = "--use_cpu --do_train --do_eval --report_to none --max_steps 4 --max_seq_length 64"
RUN = "runs/align-mlm"  # as the page has it

# The scripts load their metrics from the Hub, or from a folder of the metric's name.
METRIC = """
import datasets
import evaluate

class LocalMetric(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(description="", citation="", features=datasets.Features(
            {"predictions": FEATURE, "references": FEATURE}))

    def _compute(self, predictions, references):
        return {name: float(predictions == references) for name in NAMES}
"""
SCORES = ["overall_precision", "overall_recall", "overall_f1", "overall_accuracy"]
METRICS = {
    "accuracy": ('datasets.Value("int32")', ["accuracy"]),
    "seqeval": ('datasets.Sequence(datasets.Value("string"))', SCORES),
}


@pytest.fixture(scope="module")
def clone():
    """The folder of the library's clone."""
    folder = os.environ.get("ALIGNMLM_TRANSFORMERS")
    if not folder:
        pytest.skip("no clone of transformers: ALIGNMLM_TRANSFORMERS names its folder")
    return Path(folder).resolve()


@pytest.fixture
def work(tmp_path, monkeypatch, doubled):
    """A folder with a stock BERT in it, under the page's name, and with metrics."""
    monkeypatch.chdir(tmp_path)
    tokenizer, language = doubled
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape |= {"intermediate_size": 64, "max_position_embeddings": 64}
    config = BertConfig(vocab_size=len(tokenizer), **shape)
    for part in (BertForMaskedLM(config), tokenizer, language):
        part.save_pretrained(RUN)
    BilingualDictionary.from_pairs(vocabulary_pairs(tokenizer, language)).save_pretrained(".")
    for name, (feature, names) in METRICS.items():
        module = METRIC.replace("FEATURE", feature).replace("NAMES", repr(names))
        Path(name).mkdir()
        Path(name, f"{name}.py").write_text(module, encoding="utf-8")
    return tmp_path


def run(script, *options):
    """Run a script, and give the metrics that it wrote."""
    command = [sys.executable, script, "--model_name_or_path", RUN, "--output_dir", "out"]
    done = subprocess.run([*command, *OPTIONS.split(), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(Path("out/all_results.json").read_text(encoding="utf-8"))


def with_added_lines(script, page):
    """The script with the lines that the page's diff adds, each after the line before it there."""
    (diff,) = re.findall(r"```diff\n(.*?)```", page, re.DOTALL)
    lines = [(line[0], line[1:] + "\n") for line in diff.splitlines()]
    for (_, before), (mark, line) in pairwise(lines):
        if mark == "+":
            assert script.count(before) == 1
            script = script.replace(before, before + line)
    return script


def write_rows(name, rows):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def test_run_mlm_with_three_lines_more(clone, work):
    page = PAGE.read_text(encoding="utf-8")
    text = (" ".join(s.words) + "\n" for s in islice(minienglish.sentences(), 80))
    Path("english.txt").write_text("".join(text), encoding="utf-8")
    (derive,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(re.sub(r"^  ", "", derive, flags=re.MULTILINE), PAGE.name, "exec"), {})
    script = clone / "examples/pytorch/language-modeling/run_mlm.py"
    ours = with_added_lines(script.read_text(encoding="utf-8"), page)
    assert len(ours.splitlines()) == len(script.read_text(encoding="utf-8").splitlines()) + 3
    Path("run_mlm.py").write_text(ours, encoding="utf-8")
    files = ("--train_file", "both.txt", "--validation_file", "both.txt", "--line_by_line")
    results = run("run_mlm.py", *files, "--learning_rate", "0.01")
    # What the script prints is the masked LM's perplexity, with nothing of the alignment in it.
    assert results["perplexity"] == pytest.approx(math.exp(results["eval_mlm_loss"]))
    assert results["eval_alignment_cosine_true"] > 0.5  # random rows have 0: the term was trained
    assert Path("out/dictionary.json").is_file()


def test_run_ner_unchanged(clone, work):
    sentences = islice(minienglish.sentences(), 40)
    rows = [{"tokens": list(s.words), "ner_tags": list(s.ner_tags)} for s in sentences]
    file = write_rows("ner.json", rows)
    script = clone / "examples/pytorch/token-classification/run_ner.py"
    assert "eval_f1" in run(script, "--train_file", file, "--validation_file", file)


def test_run_glue_unchanged(clone, work):
    pairs = [
        {"sentence1": " ".join(p.premise.words), "sentence2": " ".join(p.hypothesis.words)}
        | {"label": p.label}
        for p in islice(minienglish.pairs(), 40)
    ]
    file = write_rows("nli.json", pairs)
    script = clone / "examples/pytorch/text-classification/run_glue.py"
    assert "eval_accuracy" in run(script, "--train_file", file, "--validation_file", file)


def test_the_librarys_tests_of_bert_pass_with_our_class(clone):
    pytest.importorskip("parameterized", reason="the library's tests need it")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rp", "--tb=no"]
    command.append("tests/models/bert/test_modeling_bert.py")
    passed = {}
    for name, plugin in (("stock", []), ("ours", ["-p", "library_bert"])):
        environment = os.environ | {"PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"}
        done = subprocess.run(
            [*command, *plugin], cwd=clone, env=environment, capture_output=True, text=True
        )
        passed[name] = set(re.findall(r"^PASSED (\S+)", done.stdout, re.MULTILINE))
    assert len(passed["stock"]) > 100
    assert not passed["stock"] - passed["ours"]

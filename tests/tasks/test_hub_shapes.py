"""XNLI, WikiANN and Universal Dependencies in the shapes that they have on the Hub."""

import json
from pathlib import Path

import pytest
from datasets import (
    ClassLabel,
    Dataset,
    Features,
    List,
    Translation,
    TranslationVariableLanguages,
    Value,
)
from hub_server import HubServer, in_process
from test_natural_tasks import FAST, checkpoint, one_thread  # noqa: F401

from hf_alignmlm.files import read_json

ROOT = Path(__file__).parent.parent.parent
TEXT, TEXTS = Value("string"), List(Value("string"))
NLI = ClassLabel(names=["entailment", "neutral", "contradiction"])
UPOS = ClassLabel(names=["NOUN", "PUNCT", "ADP", "NUM", "SYM", "DET", "VERB", "_"])
NER = ClassLabel(names=["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"])
WORDS = {"en": ["of", "the", "dogs", "sleep"], "fr": ["du", "de", "le", "chien"]}


def xnli(language, number):
    words = " ".join(WORDS[language][number % 3 :])
    return {"premise": f"{words} {number}", "hypothesis": words, "label": number % 3}


def all_languages(_, number):
    rows = {name: xnli(name, number) for name in WORDS}
    translations = {name: row["hypothesis"] for name, row in rows.items()}
    return {
        "premise": {name: row["premise"] for name, row in rows.items()},
        "hypothesis": {"language": [*translations], "translation": [*translations.values()]},
        "label": number % 3,
    }


def wikiann(language, number):
    tokens = [*WORDS[language], str(number)]
    return {
        "tokens": tokens,
        "ner_tags": [1, 2, 0, 5, 0],
        "langs": [language] * 5,
        "spans": [f"PER: {' '.join(tokens[:2])}", f"LOC: {tokens[3]}"],
    }


def treebank(language, number):
    # French "du" is a range: its words are "de" and "le".
    is_range = language == "fr"
    columns = {
        "tokens": [*WORDS[language], str(number)],
        "upos": [7 if is_range else 2, 2 if is_range else 5, 5 if is_range else 0, 6, 3],
        "head": ["None" if is_range else "3", "4", "4", "0", "4"],
        "deprel": ["_" if is_range else "case", "case", "det", "root", "obl"],
    }
    more = dict.fromkeys(("lemmas", "xpos", "feats", "deps", "misc"), columns["tokens"])
    return {"idx": f"{language}-{number}", "text": " ".join(columns["tokens"]), **columns, **more}


PAIR = {"premise": TEXT, "hypothesis": TEXT, "label": NLI}
TREE = dict.fromkeys(("tokens", "lemmas", "xpos", "feats", "head", "deprel", "deps", "misc"), TEXTS)
# By repository and configuration: the shape, a row of it, its language and its splits.
SETS = {
    "xnli": {
        "all_languages": (
            {
                "premise": Translation(languages=[*WORDS]),
                "hypothesis": TranslationVariableLanguages(languages=[*WORDS]),
                "label": NLI,
            },
            *(all_languages, "", "train validation test"),
        ),
        **{name: (PAIR, xnli, name, "train validation test") for name in WORDS},
    },
    "wikiann": {
        name: (
            {"tokens": TEXTS, "ner_tags": List(NER), "langs": TEXTS, "spans": TEXTS},
            *(wikiann, name, "train validation test"),
        )
        for name in WORDS
    },
    "universal_dependencies": {
        config: ({"idx": TEXT, "text": TEXT, "upos": List(UPOS)} | TREE, treebank, *more)
        for config, *more in (("en_ewt", "en", "train test"), ("fr_pud", "fr", "test"))
    },
}
SCRIPT = """
import json, sys
from huggingface_hub import HfApi
folder, *commands = json.loads(sys.argv[1])
api = HfApi()
for name in ("xnli", "wikiann", "universal_dependencies"):
    api.create_repo(f"me/{name}", repo_type="dataset")
    api.upload_folder(repo_id=f"me/{name}", repo_type="dataset", folder_path=f"{folder}/{name}")
from hf_alignmlm.tasks import finetuning
for command, *argv in commands:
    try:
        finetuning.main(argv, command)
    except SystemExit as stopped:
        print("stopped", stopped.code)
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.tasks import TASKS, read_task
rows = read_task(
    TASKS["pos"], str.split, dataset_name="me/universal_dependencies", dataset_config_name="en_ewt"
).rows["test"]
print(TASKS["pos"].derive(rows[0], SyntheticLanguage("syn-fr"), 0)[0].words)
"""


@pytest.fixture(scope="module")
def datasets_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    for name, configs in SETS.items():
        card = "---\nconfigs:\n"
        for config, (features, row, language, splits) in configs.items():
            card += f"- config_name: {config}\n  data_files:\n"
            for start, split in enumerate(splits.split()):
                rows = [row(language, 100 * start + number) for number in range(12)]
                path = folder / name / config / f"{split}.parquet"
                Dataset.from_list(rows, features=Features(features)).to_parquet(path)
                card += f"  - split: {split}\n    path: {config}/{split}.parquet\n"
        (folder / name / "README.md").write_text(card + "---\n")
    return folder


def test_each_is_read_by_its_name_and_configurations(
    datasets_folder,
    checkpoint,  # noqa: F811
    tmp_path,
):
    def argv(command, task, name, config, output):
        words = ["--model_name_or_path", str(checkpoint), "--output_dir", str(tmp_path / output)]
        words += ["--dataset_name", f"me/{name}", "--dataset_config_name", *config.split()]
        return [command, *words, "--task_name", task, *FAST]

    commands = [
        [*argv("nli", "nli", "xnli", "en=en fr=fr", "nli"), "--xnli_mixed"],
        argv("nli", "nli", "xnli", "all_languages", "all"),
        argv("nli", "nli", "xnli", "en=en fr=de", "none"),
        argv("tag", "ner", "wikiann", "en=en fr=fr", "ner"),
        argv("tag", "pos", "universal_dependencies", "en=en_ewt fr=fr_pud", "pos"),
        argv("tag", "pos", "universal_dependencies", "fr=fr_pud en=en_ewt", "swapped"),
    ]
    with HubServer() as hub:
        env = hub.env(tmp_path / "home") | {"PYTHONPATH": str(ROOT)}
        given = json.dumps([str(datasets_folder), *commands])
        done = in_process(SCRIPT, env, given)
        assert done.returncode == 0, done.stderr
        assert hub.unimplemented == []
    assert done.stdout.count("stopped 2") == 3
    errors = [line for line in done.stderr.splitlines() if ": error: " in line]
    assert "me/xnli, all_languages, train row 1, premise: several languages stand" in errors[0]
    assert "'de'" in errors[1]
    assert "me/universal_dependencies, fr_pud has the splits test: a task needs train" in errors[2]
    assert "'sleep'" in done.stdout.splitlines()[-1]
    nli, ner, pos = (
        read_json(tmp_path / task / "all_results.json") for task in ("nli", "ner", "pos")
    )
    for results in (nli, ner, pos):
        assert results["languages"] == ["en", "fr"]
        assert (results["n_train"], results["transfer"]["fr"]["n_test"]) == (12, 12)
    for results in (nli, ner):
        assert results["transfer_gap"] == pytest.approx(results["bz"] - results["bs"])
    assert nli["bz_mixed"] is not None
    assert pos["bs"] is None
    # The range is no word, and its tag none.
    assert "_" not in read_json(tmp_path / "pos" / "config.json")["label2id"]
    assert pos["transfer"]["fr"]["unseen_tags"] == {}

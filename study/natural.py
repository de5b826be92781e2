"""Natural languages: what alignment is worth beside a masked LM alone, on texts of your own.

    python -m study.natural --data_dir DATA

`DATA` has `natural/NAME.train.txt.gz` and `NAME.validation.txt.gz` of each language,
`natural/en-NAME.filtered.txt.gz` (pairs of frequent words), and the treebanks of Universal
Dependencies (docs/natural/README.md tells what they are). Steps are run, resumed and stored as
those of the paper's grid; `alignmlm report docs/natural` makes the tables.
"""

import argparse
from collections.abc import Iterator, Sequence

from hf_alignmlm.arguments import one_line_errors
from study.driver import Driver
from study.grid import Step

# The weight of the alignment loss was chosen on en-hi, 2,000 steps, by the losses of both languages
# and the P@1 of seen pairs, never by a task (docs/natural/README.md).
WEIGHT = "1"
SEEDS = (0, 1, 2)
PRETRAIN = (
    *("run_pretraining", "--vocab_size", "10000", "--dictionary_fraction", "0.9", "--bf16"),
    *("--eval_strategy", "no", "--save_steps", "500", "--logging_steps", "100"),
)
TAG = ("run_tagging", "--task_name", "pos", "--skip_supervised", "--bf16")


def named(names: Sequence[str], place: str) -> list[str]:
    """Files by language: `en={data}/natural/en.train.txt.gz` for the place `natural/{}.train…`."""
    return [f"{name}={{data}}/{place.format(name)}" for name in names]


def pretraining(names: Sequence[str], objective: str, seed: int) -> Step:
    """A pre-training on these languages, the first beside each other one's filtered dictionary."""
    name = f"{'-'.join(names)}-{objective}-{seed}"
    dictionaries = [
        f"en-{other}={{data}}/natural/en-{other}.filtered.txt.gz" for other in names[1:]
    ]
    options = ["--objective", objective, "--seed", str(seed)]
    options += ["--train_file", *named(names, "natural/{}.train.txt.gz")]
    options += ["--validation_file", *named(names, "natural/{}.validation.txt.gz")]
    options += ["--dictionary_file", *dictionaries]
    options += ["--alignment_loss_weight", WEIGHT] if objective == "align-mlm" else []
    command = (*PRETRAIN, *options, "--output_dir", f"{{output}}/{name}")
    return Step(name, "pretraining", command, f"{{output}}/{name}/model.safetensors")


def tagging(model: Step, names: Sequence[str]) -> Step:
    """Part-of-speech tagging: English labels, tested on parallel sentences of each language."""
    options = ["--train_file", "en={data}/ud/en_ewt-ud-train.conllu.gz"]
    options += ["--test_file", *named(names, "ud/{}_pud-ud-test.conllu.gz")]
    options += ["--model_name_or_path", f"{{output}}/{model.name}"]
    command = (*TAG, *options, "--output_dir", f"{{output}}/{model.name}-pos")
    product = f"{{output}}/{model.name}-pos/all_results.json"
    return Step(f"{model.name}-pos", "pos", command, product, (model,))


def plan() -> Iterator[Step]:
    """All steps, the most telling first."""
    for seed in SEEDS:
        for other in ("hi", "fr"):
            for objective in ("align-mlm", "mlm"):
                model = pretraining(("en", other), objective, seed)
                yield from (model, tagging(model, ("en", other)))


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing; exit code 1 where a step failed."""
    parser = argparse.ArgumentParser(prog="python -m study.natural", description=__doc__)
    parser.add_argument("--data_dir", default="data", help="the folder of texts and treebanks")
    parser.add_argument("--output_dir", default="runs/natural", help="runs and checkpoints")
    parser.add_argument("--results_dir", default="docs/natural", help="results files")
    parser.add_argument("--jobs", type=int, help="steps at a time; default: number of cores")
    with one_line_errors():
        failed = Driver(parser.parse_args(argv), list(plan())).run()
    for name, reason in failed.items():
        print(f"FAILED {name}: {reason}")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

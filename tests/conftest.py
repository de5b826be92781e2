"""What the whole suite shares: no network, caches of its own, one small tokenizer, the real data.

The environment is set here, before any test module imports `datasets` or `transformers`, which read
it once.
"""

import atexit
import os
import shutil
import tempfile
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
CACHE = tempfile.mkdtemp(prefix="alignmlm-tests-")
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HOME": CACHE,
    "HF_DATASETS_CACHE": f"{CACHE}/datasets",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
# The same examples at every run, and no clock: a busy machine is no failure.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def cut_batches(tmp_path_factory):
    """What `gradient_driver` gives of two processes, by how it cuts a batch and by architecture."""
    import gradient_driver
    import torch

    from hf_alignmlm.models.backbones import BACKBONES

    folder = tmp_path_factory.mktemp("cut_batches")
    cases = ["8,1,bert", "2,4,bert,9", *(f"2,4,{name}" for name in BACKBONES)]
    gradient_driver.two_processes(folder, "gradient_driver.py", *cases)
    return {case: torch.load(folder / f"{case}.pt") for case in cases}


@pytest.fixture(scope="session")
def data_folder():
    """The folder of real data; tests that ask for it are skipped where it is absent."""
    folder = ROOT / os.environ.get("ALIGNMLM_DATA", "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}: ALIGNMLM_DATA names the folder")
    return folder


@pytest.fixture(scope="session")
def embedded():
    """Two thousand sentences of the embedded corpus."""
    from hf_alignmlm import minienglish

    return list(islice(minienglish.sentences(), 2000))


@pytest.fixture(scope="session")
def tokenizer(embedded):
    """A small cased tokenizer of the embedded corpus, not doubled."""
    from hf_alignmlm.data.tokenizer import train_tokenizer

    return train_tokenizer((" ".join(s.words) for s in embedded), 600, model_max_length=64)


@pytest.fixture(scope="session")
def doubled(tokenizer):
    """The doubled tokenizer and its language, `trans_inv`."""
    from hf_alignmlm.data.tokenizer import double_tokenizer
    from hf_alignmlm.languages.synthetic import SyntheticLanguage

    return double_tokenizer(tokenizer, SyntheticLanguage.from_name("trans_inv"))

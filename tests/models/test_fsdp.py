"""FSDP2: a model sharded over two processes trains, evaluates, saves and resumes as a whole one."""

import fsdp_driver
import gradient_driver
import pytest
import torch

from hf_alignmlm import AutoModelForAlignedMaskedLM

# The library says so where one process saves or loads.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
ARCHITECTURES = ("bert", "roberta")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    gradient_driver.two_processes(folder, "fsdp_driver.py", *ARCHITECTURES)
    return folder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_two_processes_train_evaluate_save_and_resume_as_one(tmp_path, sharded, name):
    whole, found = fsdp_driver.run(name, tmp_path), torch.load(sharded / f"{name}.pt")
    assert (whole["processes"], found["processes"]) == (1, 2)
    assert found["sharded"]
    assert found["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    assert len(found["evaluations"]) == 2
    for evaluation in (*found["evaluations"], whole["evaluations"][1]):
        assert evaluation == pytest.approx(whole["evaluations"][0], rel=1e-5, nan_ok=True)
    for weights in found["weights"]:
        for key, value in whole["weights"][0].items():
            torch.testing.assert_close(weights[key], value, rtol=1e-5, atol=1e-5)
    saved = [
        AutoModelForAlignedMaskedLM.from_pretrained(f)
        for f in (sharded / name / "model", tmp_path / "model")
    ]
    assert type(saved[0]) is type(saved[1])
    assert saved[0].dictionary == saved[1].dictionary
    for one, other in zip(*(model.state_dict().values() for model in saved), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)

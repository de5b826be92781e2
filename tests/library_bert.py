"""Pytest plugin: the library's own tests of BERT, with our class in the place of its masked LM.

`pytest -p library_bert` in a clone of transformers; CONTRIBUTING.md has the whole command.
"""

import sys

from transformers import BertForMaskedLM

from hf_alignmlm.models.backbones import BertForAlignedMaskedLM


def pytest_pycollect_makeitem(collector, name, obj):
    """Change the class of tests before its tests are collected."""
    if name != "BertModelTest":
        return
    collector.obj.BertForMaskedLM = BertForAlignedMaskedLM  # what BertModelTester builds
    obj.all_model_classes = tuple(
        BertForAlignedMaskedLM if model is BertForMaskedLM else model
        for model in obj.all_model_classes
    )
    # The tests know by the name of a class that it is a masked LM, and so which labels it takes.
    common = sys.modules["tests.test_modeling_common"]
    names = {**common.MODEL_FOR_MASKED_LM_MAPPING_NAMES, "ours": BertForAlignedMaskedLM.__name__}
    common.MODEL_FOR_MASKED_LM_MAPPING_NAMES = names

"""Rank of tests/surgery/test_self_test.py: DeepSpeed, changed under us in the ways the arguments name, one by one."""

import sys

import deepspeed
import torch
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

from ufo_ds.distributed import stop
from ufo_ds.errors import UserError, leave
from ufo_ds.surgery.self_test import check_partitions
from ufo_ds.surgery.zero import hold_partitions

CHANGE = "nothing"
epilogue = DeepSpeedZeroOptimizer.independent_gradient_partition_epilogue
norm = DeepSpeedZeroOptimizer.scaled_global_norm


def changed_epilogue(self):
    kept = dict(self.averaged_gradients)
    epilogue(self)
    parts = [part for part in self.averaged_gradients.values() if part is not None]
    if CHANGE == "not averaged":
        for part in parts:
            torch._foreach_mul_(list(part), 2.0)
    if CHANGE == "one rank differs" and torch.distributed.get_rank() == 1:
        parts[0][0].mul_(1.01)
    if CHANGE == "another shape on one rank" and torch.distributed.get_rank() == 1:
        parts[0].reverse()
    if CHANGE == "not a number":
        parts[-1][0].fill_(float("nan"))
    if CHANGE == "in bf16":
        for part in parts:
            for tensor in part:
                tensor.copy_(tensor.bfloat16() * 1.003)
    if CHANGE == "another attribute":
        self.gradients_of_partitions = self.averaged_gradients
        self.averaged_gradients = dict.fromkeys(kept)


def check(change):
    """The self-test's verdict on a fresh engine."""
    global CHANGE
    CHANGE = change
    model = torch.nn.Sequential(torch.nn.Linear(20, 20), torch.nn.Linear(20, 3))
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_clipping": 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": 2, "reduce_bucket_size": 200},
    }
    optimizer = torch.optim.AdamW(model.parameters())
    engine = deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]
    DeepSpeedZeroOptimizer.independent_gradient_partition_epilogue = changed_epilogue
    changed_norm = change == "step takes others"
    DeepSpeedZeroOptimizer.scaled_global_norm = (lambda self: norm(self) * 1.5) if changed_norm else norm
    try:
        check_partitions(hold_partitions(engine))
        print(f"RESULT {change}: passed")
    except UserError as error:
        print(f"RESULT {change}: {error}")


def main():
    deepspeed.init_distributed(dist_backend="gloo")
    for change in sys.argv[1:]:
        check(change)


main()
stop()
leave(0)

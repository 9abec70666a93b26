import json
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("routed_worker.py")
pytestmark = pytest.mark.multiprocess


def test_routed_elastic_steps_agree_on_all_ranks_and_are_repeated_to_the_bit(check_ranks, tmp_path):
    """Ranks with other batches take other gradients, and the same routes and sizes."""
    result, other = (json.loads(text.split("RESULT ")[1]) for text in check_ranks(WORKER, 2, tmp_path))
    assert result == other, "the ranks draw differently"
    assert result["same"] == [True, True], "the ranks hold different weights"
    assert result["resumed"], "a resumed run ends elsewhere"
    whole = result["whole"]
    assert result["again"] == {step: record for step, record in whole.items() if int(step) > 3}
    assert len({str(record["width"]) for record in whole.values()}) > 1
    probabilities = [record["own"]["cls"]["block 2 ffn"] for record in whole.values()]
    assert len(set(probabilities)) > 3, "the logits are not trained"

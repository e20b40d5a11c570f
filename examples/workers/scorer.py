"""A worker in Python that offers one type of task, `score`: how unusual a payment is, from 0 to 1.

    distric dev --workflows examples/workers/workflows.yaml            # in one terminal
    python3 examples/workers/scorer.py 127.0.0.1:7400                  # in a second
    distric run scored_payment --input '{"amount": 9000, "usual": 120}'   # in a third
"""

import logging
import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "sdk" / "python"))

from distric.worker import TaskFailure, Worker  # noqa: E402

logging.basicConfig(level=logging.INFO, stream=sys.stderr)
worker = Worker(sys.argv[1].split(","), name="scorer", slots=4, labels={"language": "python"})


@worker.task("score")
def score(context, payment):
    """The distance from what is usual, on a scale of powers of ten, squeezed into 0 to 1."""
    amount, usual = payment.get("amount"), payment.get("usual")
    if not isinstance(amount, (int, float)) or not isinstance(usual, (int, float)) or amount < 0 or usual <= 0:
        raise TaskFailure("bad_input", "expected `amount`, not negative, and `usual`, positive", retryable=False)
    steepness = context.config.get("steepness", 2.0)
    return {"score": round(1 / (1 + math.exp(-steepness * (math.log10((amount + 1) / usual) - 1))), 4)}


worker.run()

"""A rank of `test_distributed.py`: says what comes of a value that all ranks should share."""

import sys

from ufo_ds.distributed import ObjectExchange, find_ranks, start_gloo, stop
from ufo_ds.errors import UserError

ranks = find_ranks()
start_gloo(ranks)
exchange = ObjectExchange(ranks)
exchange.require_same("same", "the words")
try:
    exchange.require_same(sys.argv[1 + ranks.rank], "the shards of here")
    print("agreed")
except UserError as error:
    print(error)
stop()

"""For the server that reader processes are forked from, which imports this first: SIGTERM is held back, in both.

Launchers and clusters send it to every process there is. The training finishes its step then, and saves, for which it
needs its readers; they end with it.
"""

import signal

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

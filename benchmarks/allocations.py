"""Bytes that a piece of code allocates, as torch's profiler records them."""

from __future__ import annotations

from collections.abc import Callable


def allocated(action: Callable[[], object]) -> int:
    """Peak of the bytes allocated on the CPU while `action` runs, beyond those that were there before."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        action()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    level = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        level += event.nbytes()
        peak = max(peak, level)
    return peak

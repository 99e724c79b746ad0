"""The work: asks `domain` what to do, then does it. Async; every task belongs to a task group."""

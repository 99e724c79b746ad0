"""runner: bulk prompts through the Claude API, resumable, within limits, cost-tracked."""

__version__ = "0.1.0"

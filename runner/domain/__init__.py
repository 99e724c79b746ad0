"""The rules: pure values and decisions. No IO, no async, no clock of its own; time and chance are arguments."""

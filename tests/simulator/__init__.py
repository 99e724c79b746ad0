"""The simulator keeps its promises: the ones that other tests lean on."""

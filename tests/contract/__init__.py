"""The official SDK, an independent client, understands the simulator."""

"""Float networks: run step by step, layer by layer."""

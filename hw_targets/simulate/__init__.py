"""The definition, the engine and Lava: three ways to the same integers."""

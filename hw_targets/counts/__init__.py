"""Events counted, core by core."""

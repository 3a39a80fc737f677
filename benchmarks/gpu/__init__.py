"""What a machine with a GPU measures, without Norse or Lava."""

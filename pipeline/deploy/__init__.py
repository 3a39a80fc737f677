"""From a trained network to `Deployed`, and running it."""

"""From counts to joules and seconds, as intervals."""

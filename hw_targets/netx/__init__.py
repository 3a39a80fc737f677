"""lava-dl's netx HDF5 files."""

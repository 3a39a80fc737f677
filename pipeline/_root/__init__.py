"""A trained spiking network in, Loihi-style hardware and trustworthy numbers out."""

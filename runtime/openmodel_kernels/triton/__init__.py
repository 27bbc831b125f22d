"""The operations on a GPU, written in Triton and compiled for the device at hand when first used."""

"""The operations in C++, compiled when the wheel or image is built; the processor at hand decides which form runs."""

"""Stock Debian kernels in qemu: the harness, the probes and the suite (see vm/README.md)."""

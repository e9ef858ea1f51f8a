//! End-to-end scenarios on real runtimes and kernels.

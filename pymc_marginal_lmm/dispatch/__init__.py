"""Backends: registration and kernels, nothing else."""

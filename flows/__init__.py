"""The DAG: one module a stage, the nightly chain, and the command ``sage``."""

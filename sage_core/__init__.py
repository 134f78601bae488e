"""The science of SAGE and its engineering: no Prefect, no catalog, light to import."""

__version__ = "0.1.0"

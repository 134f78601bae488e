"""One Prefect task a unit of work: fetch the inputs, call sage_core, record the verdict."""

"""The command ``sage``."""


def main() -> None:
    raise SystemExit("not yet")

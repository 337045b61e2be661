"""Runs `gfpet` as `python -m flows`, if the program is not on PATH."""

from flows.cli import app

if __name__ == "__main__":
    app(prog_name="gfpet")

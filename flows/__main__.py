"""`python -m flows` is `gfpet`, for where the program is not on the path."""

from flows.cli import app

if __name__ == "__main__":
    app(prog_name="gfpet")

"""``python -m training.selfplay``."""

from mentalarena.cli import run_command
from training.selfplay.command import selfplay

run_command(selfplay, "python -m training.selfplay")

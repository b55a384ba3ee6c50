"""Stages of the flow, one file each; code shared by two stages stands in a file named `_noun.py`."""

from tasks.engine.home import quiet_environment

quiet_environment()

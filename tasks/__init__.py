"""Stages of the flow, one file each; what a stage is made of is in a wing, a folder in here."""

from tasks.engine.home import quiet_environment

quiet_environment()

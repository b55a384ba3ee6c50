"""Stages, one file each; their code is in the folders below."""

from tasks.engine.home import quiet_environment

quiet_environment()

"""Stages, one file each; their code is in the folders below."""

from tasks.engine.home import prepare_environment

prepare_environment()

"""Flows, and the command line that starts them."""

from flows.services.own_packages import require_own_packages

require_own_packages()

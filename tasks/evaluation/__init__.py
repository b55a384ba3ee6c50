"""One code that evaluates base, champion and challenger."""

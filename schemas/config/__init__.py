"""RunConfig and its sections, configuration files, sweeps, error texts."""

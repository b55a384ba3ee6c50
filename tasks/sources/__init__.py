"""Where rows come from, and how files become rows."""

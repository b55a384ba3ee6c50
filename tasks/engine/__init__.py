"""Running a function as a cached, resumable stage."""

"""Row, text, tool and set rules; their checks with pandera and great-expectations; the profile."""

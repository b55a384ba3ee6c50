"""Row, text, tool and set rules; pandera and great-expectations at work; the profile."""

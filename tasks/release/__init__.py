"""What a registered version is given: files, card, licence, promotion, retention, export."""

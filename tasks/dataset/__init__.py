"""Splitting the rows, comparing them, and the set rules; the data gate without a flow."""

"""The set of rows: split, compared, checked by the set rules; the data gate without a flow."""

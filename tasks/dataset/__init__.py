"""The set of rows: split, compared, held to its rules; the data gate without a flow."""

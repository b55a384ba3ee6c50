"""Reading rows from files, folders, the Hub and URLs."""

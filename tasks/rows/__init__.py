"""Row rules, features and near duplicates."""

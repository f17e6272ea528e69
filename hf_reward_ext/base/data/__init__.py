"""Preference data as token ids and masks."""
